import * as tfjsWebGPU from '@tensorflow/tfjs-backend-webgpu';
import { type DataType, env, getKernel, type KernelFunc, type TensorInfo } from '@tensorflow/tfjs-core';

/** A program as tfjs's WebGPUBackend runs it; its own type is not exported. */
export interface TfjsProgram {
  outputShape: number[];
  shaderKey: string;
  dispatchLayout: { x: number[] };
  dispatch: [number, number, number];
  variableNames: string[];
  uniforms: string;
  workgroupSize: [number, number, number];
  size: boolean;
  getUserCode(): string;
}

type DataId = TensorInfo['dataId'];

/** What is used of tfjs: buffers and their reuse, pipelines, recording and submitting, and its matrix product. */
export interface TfjsBackend {
  makeTensorInfo(shape: number[], type: DataType, values?: Float32Array | Int32Array): TensorInfo;
  uploadToGPU(dataId: DataId): void;
  runWebGPUProgram(
    program: TfjsProgram,
    inputs: TensorInfo[],
    type: DataType,
    uniforms: { type: string; data: number[] }[],
    output?: TensorInfo,
  ): TensorInfo;
  matmul(
    inputs: { a: TensorInfo; b: TensorInfo },
    attrs: { transposeA: boolean; transposeB: boolean },
  ): TensorInfo;
  read(dataId: DataId): Promise<unknown>;
  /** What it knows of an array; `values` are kept when they are read, as if nobody wrote again. */
  readonly tensorMap: { get(dataId: DataId): { values: unknown } };
  disposeData(dataId: DataId): boolean;
  memory(): { numBytesInGPU: number; numBytesAllocatedInGPU: number };
  dispose(): void;
}

type BackendClass = new (device: GPUDevice, info?: GPUAdapterInfo) => Omit<TfjsBackend, 'matmul'>;

/**
 * A backend of tfjs for one device, apart from its global engine: nothing is registered, no tensor is tracked.
 * `navigator.gpu` must be there.
 */
export function createTfjsBackend(device: GPUDevice, info?: GPUAdapterInfo): TfjsBackend {
  // In Node the package is CommonJS, whose names appear below `default`.
  const module = tfjsWebGPU as unknown as {
    WebGPUBackend?: BackendClass;
    default?: { WebGPUBackend: BackendClass };
  };
  const WebGPUBackend = (module.WebGPUBackend ?? module.default?.WebGPUBackend) as BackendClass;
  env().set('WEBGPU_CPU_FORWARD', false);
  const backend = new WebGPUBackend(device, info);
  const product = getKernel('BatchMatMul', 'webgpu')?.kernelFunc as KernelFunc;
  return Object.assign(backend, {
    matmul: (inputs: { a: TensorInfo; b: TensorInfo }, attrs: { transposeA: boolean; transposeB: boolean }) =>
      product({ inputs, attrs, backend }) as TensorInfo,
  });
}
