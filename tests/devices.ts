import { createNodeBackend } from '@detailflow/backend-node';
import { createWebGPUBackend } from '@detailflow/backend-webgpu';
import type { Backend } from '@detailflow/core';
import { createReferenceBackend } from '@detailflow/core/reference';
import { provideDriver } from '../tools/webgpu/driver.mjs';

export type DeviceName = 'reference' | 'cpu' | 'webgpu';

/** Why WebGPU cannot be tested here, or undefined. */
export const webgpuMissing: string | undefined = provideDriver();
if (webgpuMissing) console.warn(`WebGPU IS NOT TESTED: ${webgpuMissing}`);

/**
 * The devices that golden values are checked on. WebGPU runs on a software adapter here, which takes as long as all the rest:
 * `npm run test:webgpu` asks for it alone.
 */
export const devices: readonly DeviceName[] =
  process.env.DETAILFLOW_TEST_DEVICE === 'webgpu' && !webgpuMissing ? ['webgpu'] : ['reference', 'cpu'];

export async function openDevice(device: DeviceName): Promise<Backend> {
  if (device === 'reference') return createReferenceBackend();
  return device === 'cpu' ? createNodeBackend({ device }) : createWebGPUBackend();
}
