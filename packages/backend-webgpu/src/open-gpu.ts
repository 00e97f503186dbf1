import { DetailFlowError } from '@detailflow/core';
import type { WebGPUBackendOptions } from './create-webgpu-backend';

/** A device, and whether it was made here. */
export interface OpenedGpu {
  readonly device: GPUDevice;
  readonly info?: GPUAdapterInfo;
  readonly isOwn: boolean;
}

/** Limits that are raised to what the adapter has. */
const raised = [
  'maxBufferSize',
  'maxStorageBufferBindingSize',
  'maxComputeWorkgroupStorageSize',
  'maxComputeWorkgroupsPerDimension',
  'maxComputeInvocationsPerWorkgroup',
  'maxComputeWorkgroupSizeX',
] as const;

/** Features that kernels use where the adapter has them. */
const optional = ['subgroups', 'shader-f16'] as readonly string[] as readonly GPUFeatureName[];

/** @throws DetailFlowError `device-unavailable` */
export async function openGpu(options: WebGPUBackendOptions): Promise<OpenedGpu> {
  await provideGpu();
  const { device: given, powerPreference = 'high-performance' } = options;
  if (given) return { device: given, info: given.adapterInfo, isOwn: false };
  const adapter = options.adapter ?? (await navigator.gpu.requestAdapter({ powerPreference }));
  if (!adapter) {
    throw new DetailFlowError(
      'device-unavailable',
      'WebGPU finds no adapter: it needs a graphics driver (in Node and on Linux a Vulkan one)',
    );
  }
  const { limits } = adapter;
  const requiredLimits = Object.fromEntries(raised.map((name) => [name, limits[name]]));
  const requiredFeatures = optional.filter((name) => adapter.features.has(name));
  const device = await adapter.requestDevice({ requiredLimits, requiredFeatures });
  return { device, info: adapter.info, isOwn: true };
}

/** In Node, makes `navigator.gpu` and the names that go with it of the package \`webgpu\`. */
async function provideGpu(): Promise<void> {
  if (globalThis.navigator?.gpu) return;
  if (!globalThis.process?.versions?.node) {
    throw new DetailFlowError(
      'device-unavailable',
      'this browser has no WebGPU here; use a current one, and a page served by https or from localhost',
    );
  }
  let webgpu: { create(flags: string[]): GPU; globals: object };
  try {
    webgpu = await import(/* @vite-ignore */ /* webpackIgnore: true */ 'webgpu');
  } catch (cause) {
    throw new DetailFlowError('device-unavailable', 'WebGPU in Node needs a package: npm install webgpu', {
      cause,
    });
  }
  Object.assign(globalThis, webgpu.globals);
  const gpu = webgpu.create([]);
  if (!globalThis.navigator)
    Object.defineProperty(globalThis, 'navigator', { value: {}, configurable: true });
  Object.defineProperty(globalThis.navigator, 'gpu', { value: gpu, configurable: true });
}
