import * as tfjsWebGPU from '@tensorflow/tfjs-backend-webgpu';
import { type DataType, env, getKernel, type KernelFunc, type TensorInfo } from '@tensorflow/tfjs-core';
import { BufferPool } from './buffer-pool';

type DataId = TensorInfo['dataId'];

/** What tfjs knows of an array. */
interface TfjsData {
  resource?: GPUBuffer;
  /** Whether the buffer belongs to somebody else, who releases it. */
  external?: boolean;
}

/** What is used of tfjs's WebGPUBackend; its own type is not exported. */
interface TfjsInstance {
  bufferManager: unknown;
  /** Kernels recorded since the last submission; at a number that is a flag of tfjs it submits by itself. */
  dispatchCountInPass: number;
  commandEncoder: GPUCommandEncoder | null;
  computePassEncoder: GPUComputePassEncoder | null;
  readonly tensorMap: { get(dataId: DataId): TfjsData };
  makeTensorInfo(shape: number[], type: DataType): TensorInfo;
  ensureCommandEncoderReady(): void;
  endComputePassEncoder(): void;
  submitQueue(): void;
  runWebGPUProgram(...args: unknown[]): TensorInfo;
  disposeData(dataId: DataId): boolean;
  dispose(): void;
}

type BackendClass = new (device: GPUDevice, info?: GPUAdapterInfo) => TfjsInstance;

/** A matrix, or a batch of matrices, in a buffer. */
export interface Matrices {
  readonly buffer: GPUBuffer;
  readonly shape: readonly number[];
}

/** What happens in tfjs that somebody wants to know. */
export interface TfjsEvents {
  /** Before commands go to the device. */
  readonly onSubmit: () => void;
  readonly onDispatch: () => void;
}

/**
 * A backend of tfjs for one device, apart from its global engine: nothing is registered, no tensor is tracked, no flag
 * of its products is changed. It records into one command encoder, which others may record into as well.
 */
export class TfjsDevice {
  readonly pool: BufferPool;
  readonly #backend: TfjsInstance;
  readonly #product: KernelFunc;

  /** `navigator.gpu` must be there. */
  constructor(device: GPUDevice, info: GPUAdapterInfo | undefined, { onSubmit, onDispatch }: TfjsEvents) {
    // In Node the package is CommonJS, whose names appear below `default`.
    const module = tfjsWebGPU as unknown as {
      WebGPUBackend?: BackendClass;
      default?: { WebGPUBackend: BackendClass };
    };
    const WebGPUBackend = (module.WebGPUBackend ?? module.default?.WebGPUBackend) as BackendClass;
    env().set('WEBGPU_CPU_FORWARD', false);
    const backend = new WebGPUBackend(device, info);
    this.pool = new BufferPool(device);
    backend.bufferManager = this.pool;
    const [submit, run] = [backend.submitQueue, backend.runWebGPUProgram];
    backend.submitQueue = () => {
      onSubmit();
      submit.call(backend);
    };
    backend.runWebGPUProgram = (...args) => {
      onDispatch();
      return run.apply(backend, args);
    };
    this.#backend = backend;
    this.#product = getKernel('BatchMatMul', 'webgpu')?.kernelFunc as KernelFunc;
  }

  /** Whether commands are recorded that were not submitted. */
  get isRecording(): boolean {
    return this.#backend.commandEncoder !== null;
  }

  /** The pass that kernels are recorded into. */
  pass(): GPUComputePassEncoder {
    const backend = this.#backend;
    if (!backend.computePassEncoder) {
      backend.ensureCommandEncoderReady();
      backend.computePassEncoder = (backend.commandEncoder as GPUCommandEncoder).beginComputePass();
    }
    return backend.computePassEncoder;
  }

  /** The encoder, outside of a pass. */
  encoder(): GPUCommandEncoder {
    this.#backend.ensureCommandEncoderReady();
    this.#backend.endComputePassEncoder();
    return this.#backend.commandEncoder as GPUCommandEncoder;
  }

  /** Sends what was recorded to the device. */
  submit(): void {
    this.#backend.endComputePassEncoder();
    this.#backend.submitQueue();
  }

  /** Records a product; its buffer is the caller's to release. */
  product(a: Matrices, b: Matrices, attrs: { transposeA: boolean; transposeB: boolean }): GPUBuffer {
    const backend = this.#backend;
    backend.dispatchCountInPass = 0; // when to submit is not for tfjs to say
    const inputs = { a: this.#tensor(a), b: this.#tensor(b) };
    const { dataId } = this.#product({ inputs, attrs, backend }) as TensorInfo;
    const data = backend.tensorMap.get(dataId);
    const buffer = data.resource as GPUBuffer;
    data.external = true;
    for (const id of [inputs.a.dataId, inputs.b.dataId, dataId]) backend.disposeData(id);
    return buffer;
  }

  dispose(): void {
    this.#backend.dispose();
  }

  #tensor({ buffer, shape }: Matrices): TensorInfo {
    const info = this.#backend.makeTensorInfo([...shape], 'float32');
    Object.assign(this.#backend.tensorMap.get(info.dataId), { resource: buffer, external: true });
    return info;
  }
}
