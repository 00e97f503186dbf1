const USAGE_BITS = 0x400;

/**
 * Buffers of a device, kept for use again. It stands in for the buffer manager of tfjs, whose shape it has.
 *
 * Of the free buffers of a size the oldest is taken first, so the same run takes the same buffers again, and the bind
 * groups made of them serve again.
 */
export class BufferPool {
  /** Bytes in buffers that are in use. */
  numBytesUsed = 0;
  /** Bytes in all buffers. */
  numBytesAllocated = 0;
  readonly #device: GPUDevice;
  readonly #numbers = new Map<GPUBuffer, number>();
  /** Free buffers by size and usage, the newest first. */
  readonly #free = new Map<number, GPUBuffer[]>();
  #made = 0;

  constructor(device: GPUDevice) {
    this.#device = device;
  }

  acquireBuffer(size: number, usage: number, mappedAtCreation = false, reuse = true): GPUBuffer {
    this.numBytesUsed += size;
    const free = reuse ? this.#free.get(size * USAGE_BITS + usage)?.pop() : undefined;
    if (free) return free;
    const buffer = this.#device.createBuffer({ size, usage, mappedAtCreation });
    this.#numbers.set(buffer, this.#made++);
    this.numBytesAllocated += size;
    return buffer;
  }

  releaseBuffer(buffer: GPUBuffer, reuse = true): void {
    const { size, usage } = buffer;
    const number = this.#numbers.get(buffer);
    if (number === undefined) return; // everything was let go of meanwhile
    this.numBytesUsed -= size;
    if (!reuse) {
      buffer.destroy();
      this.#numbers.delete(buffer);
      this.numBytesAllocated -= size;
      return;
    }
    const key = size * USAGE_BITS + usage;
    const free = this.#free.get(key) ?? [];
    this.#free.set(key, free);
    let at = free.length;
    while (at > 0 && this.numberOf(free[at - 1]) < number) at--;
    free.splice(at, 0, buffer);
  }

  /** Tells buffers apart; no number is given twice. */
  numberOf(buffer: GPUBuffer): number {
    return this.#numbers.get(buffer) as number;
  }

  /** Lets go of all buffers that nobody uses. */
  trim(): void {
    for (const buffer of [...this.#free.values()].flat()) {
      this.numBytesAllocated -= buffer.size;
      this.#numbers.delete(buffer);
      buffer.destroy();
    }
    this.#free.clear();
  }

  dispose(): void {
    for (const buffer of this.#numbers.keys()) buffer.destroy();
    this.#numbers.clear();
    this.#free.clear();
    this.numBytesUsed = 0;
    this.numBytesAllocated = 0;
  }
}
