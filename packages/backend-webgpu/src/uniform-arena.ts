import type { BufferPool } from './buffer-pool';

const BYTES = 4;
const ARENA_BYTES = 256 * 1024;

/**
 * One buffer for the numbers of all kernels of a submission, each at an offset of its own: bind groups stay the same
 * when numbers change, and the numbers go to the device in one copy.
 */
export class UniformArena {
  readonly #device: GPUDevice;
  readonly #buffer: GPUBuffer;
  readonly #words = new Int32Array(ARENA_BYTES / BYTES);
  readonly #alignment: number;
  /** Bytes that are taken. */
  #used = 0;

  constructor(device: GPUDevice, pool: BufferPool) {
    this.#device = device;
    this.#alignment = device.limits.minUniformBufferOffsetAlignment;
    this.#buffer = pool.acquireBuffer(ARENA_BYTES, GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST);
  }

  /** Bytes that a kernel of so many numbers binds: few different ones, so that bind groups fit many kernels. */
  bindingSize(words: Int32Array): number {
    return Math.ceil((words.length * BYTES) / this.#alignment) * this.#alignment;
  }

  binding(words: Int32Array): GPUBufferBinding {
    return { buffer: this.#buffer, size: this.bindingSize(words) };
  }

  hasRoom(words: Int32Array): boolean {
    return this.#used + this.bindingSize(words) <= ARENA_BYTES;
  }

  /** Takes numbers for a kernel. @returns their offset in bytes */
  write(words: Int32Array): number {
    const offset = this.#used;
    this.#words.set(words, offset / BYTES);
    this.#used += this.bindingSize(words);
    return offset;
  }

  /** Copies the numbers to the device, ahead of the kernels that are about to be submitted. */
  flush(): void {
    if (this.#used > 0) this.#device.queue.writeBuffer(this.#buffer, 0, this.#words, 0, this.#used / BYTES);
    this.#used = 0;
  }
}
