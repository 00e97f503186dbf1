import { DetailFlowError } from '@detailflow/core';
import type { DataType, TensorInfo } from '@tensorflow/tfjs-core';
import type { Kernel } from './kernel';
import type { TfjsBackend } from './tfjs';

/** What lies in a buffer; bools are integers 0 and 1. */
export type ElementType = 'float32' | 'int32';

/** A flat array on the device. It is never written again once it is made, but by who alone holds it. */
export interface GpuArray {
  readonly info: TensorInfo;
  readonly size: number;
  readonly type: ElementType;
  /** How many hold it; the last one to release it frees it. */
  holders: number;
}

/** What was asked of a device so far. */
export interface GpuCounts {
  dispatches: number;
  uploads: number;
  reads: number;
}

/** The bytes that an array may have on a device. */
export interface GpuLimits {
  readonly maxStorageBufferBindingSize: number;
  readonly maxBufferSize: number;
}

const BYTES = 4;

/** Arrays and kernels on a device. Commands are recorded, and submitted now and then; only reading waits for them. */
export class Gpu {
  readonly counts: GpuCounts = { dispatches: 0, uploads: 0, reads: 0 };
  readonly #backend: TfjsBackend;
  readonly #limits: GpuLimits;
  readonly #kernels = new Map<string, Kernel>();

  constructor(backend: TfjsBackend, limits: GpuLimits) {
    this.#backend = backend;
    this.#limits = limits;
  }

  /** Bytes in buffers that are in use, and in all that are held for use. */
  memory(): { used: number; allocated: number } {
    const { numBytesInGPU, numBytesAllocatedInGPU } = this.#backend.memory();
    return { used: numBytesInGPU, allocated: numBytesAllocatedInGPU };
  }

  /** The kernel of this name, made when it is first asked for. */
  kernel(key: string, make: () => Kernel): Kernel {
    const known = this.#kernels.get(key) ?? make();
    this.#kernels.set(key, known);
    return known;
  }

  /** Copies values to the device. */
  upload(data: Float32Array | Int32Array | Uint8Array): GpuArray {
    const type = data instanceof Float32Array ? 'float32' : 'int32';
    this.requireRoom(data.length, 'an array');
    const values = data instanceof Uint8Array ? Int32Array.from(data) : data;
    // A kernel cannot be given nothing: an empty array has one element that nobody reads.
    const held = values.length > 0 ? values : type === 'float32' ? new Float32Array(1) : new Int32Array(1);
    const info = this.#backend.makeTensorInfo([held.length], type as DataType, held);
    this.#backend.uploadToGPU(info.dataId);
    this.counts.uploads++;
    return { info, size: data.length, type, holders: 1 };
  }

  /** Zeros. */
  zeros(size: number, type: ElementType): GpuArray {
    return this.upload(type === 'float32' ? new Float32Array(size) : new Int32Array(size));
  }

  /**
   * Runs a kernel that makes an array of `size` elements.
   * @param run.groups workgroups; default: one thread for each element
   * @param run.into write over this array instead
   */
  dispatch(
    kernel: Kernel,
    inputs: readonly GpuArray[],
    run: { size: number; type: ElementType; numbers: readonly number[]; groups?: number; into?: GpuArray },
  ): GpuArray {
    const { size, type, numbers, groups, into } = run;
    if (size === 0) return this.zeros(0, type);
    if (!into) this.requireRoom(size, 'a result');
    const program = kernel.program({ size, groups });
    const uniforms = kernel.uniforms.map((uniform, i) => ({
      type: uniform.endsWith(': f32') ? 'float32' : 'int32',
      data: [numbers[i]],
    }));
    const infos = inputs.map(({ info }) => info);
    const info = this.#backend.runWebGPUProgram(program, infos, type as DataType, uniforms, into?.info);
    this.counts.dispatches++;
    return into ?? { info, size, type, holders: 1 };
  }

  /** Product of batches of matrices by tfjs: a [p, m, k] or transposed, b [q, k, n] or transposed, p = q or one of them 1. */
  matmul(
    a: { array: GpuArray; shape: readonly number[] },
    b: { array: GpuArray; shape: readonly number[] },
    options: { transposeA: boolean; transposeB: boolean; size: number },
  ): GpuArray {
    this.requireRoom(options.size, 'a product');
    const matrix = ({ array, shape }: typeof a): TensorInfo => ({ ...array.info, shape: [...shape] });
    const { transposeA, transposeB } = options;
    const info = this.#backend.matmul({ a: matrix(a), b: matrix(b) }, { transposeA, transposeB });
    this.counts.dispatches++;
    return { info, size: options.size, type: 'float32', holders: 1 };
  }

  /** Waits for the device, and copies an array from it. */
  async read(array: GpuArray): Promise<Float32Array | Int32Array> {
    this.counts.reads++;
    if (array.size === 0) return array.type === 'float32' ? new Float32Array(0) : new Int32Array(0);
    const values = await this.#backend.read(array.info.dataId);
    // tfjs would give these again, whatever is written in place later.
    this.#backend.tensorMap.get(array.info.dataId).values = null;
    return (values as Float32Array | Int32Array).slice();
  }

  hold(array: GpuArray): GpuArray {
    array.holders++;
    return array;
  }

  release(array: GpuArray): void {
    array.holders--;
    if (array.holders === 0) this.#backend.disposeData(array.info.dataId);
  }

  /** @throws DetailFlowError `limit` when the device takes no array of so many elements */
  requireRoom(size: number, what: string): void {
    const bytes = BYTES * size;
    const most = Math.min(this.#limits.maxStorageBufferBindingSize, this.#limits.maxBufferSize);
    if (bytes <= most) return;
    throw new DetailFlowError(
      'limit',
      `${what} needs ${bytes} bytes, this WebGPU adapter allows ${most}: take a smaller batch, or another adapter`,
    );
  }
}
