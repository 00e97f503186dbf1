import { DetailFlowError, type DType, requireLike, type State, Tensor } from '@detailflow/core';
import type { Gpu, GpuArray } from './gpu';

/** A buffer of a state; its array is replaced when a run updates it. */
export interface StateBuffer {
  readonly shape: readonly number[];
  readonly dtype: DType;
  array: GpuArray;
}

/** Buffers on the device. */
export class WebGPUState implements State {
  /** The executable or the backend that made it. */
  readonly owner: object;
  readonly buffers: ReadonlyMap<string, StateBuffer>;
  readonly #gpu: Gpu;
  readonly #queue: <T>(job: () => Promise<T>) => Promise<T>;
  disposed = false;

  constructor(options: {
    owner: object;
    buffers: ReadonlyMap<string, StateBuffer>;
    gpu: Gpu;
    queue: <T>(job: () => Promise<T>) => Promise<T>;
  }) {
    this.owner = options.owner;
    this.buffers = options.buffers;
    this.#gpu = options.gpu;
    this.#queue = options.queue;
  }

  read(name: string): Promise<Tensor> {
    return this.#queue(async () => {
      const { array, dtype, shape } = this.#buffer(name);
      const [values] = await this.#gpu.read([array]);
      return toTensor(dtype, shape, values);
    });
  }

  write(name: string, tensor: Tensor): Promise<void> {
    return this.#queue(async () => {
      const buffer = this.#buffer(name);
      requireLike(name, tensor, buffer.dtype, buffer.shape);
      const array = this.#gpu.upload(tensor.data as Float32Array);
      this.#gpu.release(buffer.array);
      buffer.array = array;
    });
  }

  /** Frees what it holds on the device. */
  async dispose(): Promise<void> {
    if (this.disposed) return;
    this.disposed = true;
    await this.#queue(async () => {
      for (const { array } of this.buffers.values()) this.#gpu.release(array);
    }).catch(() => {}); // the device is gone, and the buffers with it
  }

  #buffer(name: string): StateBuffer {
    const buffer = this.buffers.get(name);
    if (this.disposed) throw new DetailFlowError('closed', 'the state is disposed');
    if (!buffer) throw new DetailFlowError('invalid-argument', `there is no state "${name}"`);
    return buffer;
  }
}

/** Values from the device as a tensor. */
export function toTensor(dtype: DType, shape: readonly number[], values: Float32Array | Int32Array): Tensor {
  if (dtype === 'f32') return new Tensor('float32', values as Float32Array, shape);
  if (dtype === 'i32') return new Tensor('int32', values as Int32Array, shape);
  return new Tensor('bool', Uint8Array.from(values), shape);
}
