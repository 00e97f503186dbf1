export { createWebGPUBackend, type WebGPUBackend, type WebGPUBackendOptions } from './create-webgpu-backend';
export type { GpuCounts } from './gpu';
