import {
  type Backend,
  checkOptions,
  DetailFlowError,
  expandComposites,
  requireWeights,
  type Tensors,
} from '@detailflow/core';
import { requireHeld } from './device-weight';
import { compileGraph } from './executable';
import { Gpu, type GpuCounts } from './gpu';
import { readsHalves } from './halves-trial';
import { openGpu } from './open-gpu';
import { fusedOperations } from './operations';
import { sizeOf } from './size';
import { type StateBuffer, WebGPUState } from './state';

/** Options of {@link createWebGPUBackend}: a device of your own, or how to choose one. */
export interface WebGPUBackendOptions {
  /** A device of your own; it is not destroyed by `close`. */
  readonly device?: GPUDevice;
  /** An adapter of your own. */
  readonly adapter?: GPUAdapter;
  /** Which adapter to ask for; default 'high-performance'. */
  readonly powerPreference?: GPUPowerPreference;
}

/** A backend on a WebGPU device. */
export interface WebGPUBackend extends Backend {
  readonly device: GPUDevice;
  /** What was asked of the device so far. */
  readonly counts: Readonly<GpuCounts>;
  /** Bytes in buffers that are in use, and in all that are held for use. */
  memory(): { readonly used: number; readonly allocated: number };
}

/**
 * Opens a WebGPU device, in a page, a worker, or in Node with the package `webgpu`.
 * @throws DetailFlowError `device-unavailable` where there is none, saying what to do
 * @see https://detailflow.github.io/detailflow-ts/guide/browser.html
 */
export async function createWebGPUBackend(options: WebGPUBackendOptions = {}): Promise<WebGPUBackend> {
  checkOptions('createWebGPUBackend', options, { device: true, adapter: true, powerPreference: true });
  const { device, info, isOwn } = await openGpu(options);
  let gpu: Gpu;
  try {
    gpu = new Gpu(device, info, { halves: await readsHalves(device, info) });
  } catch (cause) {
    if (isOwn) device.destroy();
    throw new DetailFlowError('device-unavailable', 'the WebGPU device could not be set up', { cause });
  }
  return new DeviceBackend(device, gpu, isOwn);
}

class DeviceBackend implements WebGPUBackend {
  readonly name = 'webgpu';
  readonly device: GPUDevice;
  readonly #gpu: Gpu;
  readonly #isOwn: boolean;
  #last: Promise<unknown> = Promise.resolve();
  #closed = false;
  /** Why the device can compute no more. */
  #lost: DetailFlowError | undefined;
  /** The first fault that no call has reported yet. */
  #fault: DetailFlowError | undefined;
  /** Settles when the device is lost. */
  readonly #losing: Promise<never>;

  constructor(device: GPUDevice, gpu: Gpu, isOwn: boolean) {
    this.device = device;
    this.#gpu = gpu;
    this.#isOwn = isOwn;
    device.addEventListener('uncapturederror', (event) => {
      event.preventDefault();
      this.#report(this.#gpu.explain(event.error));
    });
    this.#losing = device.lost.then(({ message }) => {
      this.#lost = new DetailFlowError(
        'device-lost',
        `the WebGPU device is lost${message ? ` (${message})` : ''}; make a new backend and run again from the seed`,
      );
      throw this.#lost;
    });
    this.#losing.catch(() => {}); // whoever waits for the device is told
  }

  get counts(): Readonly<GpuCounts> {
    return { ...this.#gpu.counts };
  }

  memory() {
    return this.#gpu.memory();
  }

  async compile(...[graph, weights, options = {}]: Parameters<Backend['compile']>) {
    checkOptions('compile', options, { dtype: true });
    const { dtype } = options;
    requireHeld(dtype);
    this.#requireOpen();
    requireWeights(graph, weights);
    const host = { gpu: this.#gpu, queue: this.#queue, owner: this, report: this.#report };
    return compileGraph(expandComposites(graph, fusedOperations), weights, { host, dtype });
  }

  createState(tensors: Tensors) {
    return this.#queue(async () => {
      const buffers = new Map<string, StateBuffer>();
      try {
        for (const [name, { type, dims, data }] of Object.entries(tensors)) {
          const dtype = type === 'float32' ? 'f32' : type === 'int32' ? 'i32' : 'bool';
          this.#gpu.requireRoom(sizeOf(dims), `the state "${name}"`);
          const array = this.#gpu.upload(data as Float32Array);
          buffers.set(name, { shape: [...dims], dtype, array });
        }
      } catch (error) {
        for (const { array } of buffers.values()) this.#gpu.release(array);
        throw error;
      }
      return new WebGPUState({ owner: this, buffers, gpu: this.#gpu, queue: this.#queue });
    });
  }

  /** Frees what it holds, files included. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#last.catch(() => {});
    if (!this.#lost) this.#gpu.dispose();
    if (this.#isOwn) this.device.destroy();
  }

  /** Frees it at the end of an `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  readonly #queue = <T>(job: () => Promise<T>): Promise<T> => {
    const next = this.#last
      .catch(() => {}) // whoever asked for it was told
      .then(async () => {
        this.#requireOpen();
        // A device that is lost may leave a read waiting for ever.
        const found = await Promise.race([job().catch(this.#explain), this.#losing]);
        const fault = this.#fault;
        this.#fault = undefined;
        if (fault) throw fault;
        return found;
      });
    this.#last = next;
    return next;
  };

  /** A call that fails is often the first sign of a lost device, which is told a moment later. */
  readonly #explain = async (error: unknown): Promise<never> => {
    await Promise.race([this.#losing, new Promise((resolve) => setTimeout(resolve))]);
    throw error;
  };

  /** The first fault is told by the next job that ends. */
  readonly #report = (fault: DetailFlowError): void => {
    this.#fault ??= fault;
  };

  #requireOpen(): void {
    if (this.#closed) throw new DetailFlowError('closed', 'the WebGPU backend is closed');
    if (this.#lost) throw this.#lost;
  }
}
