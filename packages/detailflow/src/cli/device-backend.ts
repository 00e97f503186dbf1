import { createNodeBackend } from '@detailflow/backend-node';
import type { Backend } from '@detailflow/core';
import { showNotice } from './show-notice';

/** What commands compute on. */
export interface DeviceOptions {
  readonly device?: 'cpu' | 'cuda' | 'webgpu' | 'auto';
  readonly threads?: number;
  /** How matrices are to be held; few bits are ONNX Runtime's alone. */
  readonly dtype?: string;
}

/**
 * The backend of a device: that of ONNX Runtime; for WebGPU `@detailflow/backend-webgpu` where it is installed with the
 * package `webgpu`, unless matrices are to be rounded.
 * @throws DetailFlowError `device-unavailable`
 */
export async function openDevice({ device, threads, dtype = 'fp32' }: DeviceOptions): Promise<Backend> {
  if (device !== 'webgpu') {
    const backend = await createNodeBackend({ device, threads });
    if (backend.name !== 'webgpu') return backend;
    await backend.close(); // what "auto" has chosen
  }
  const own = dtype === 'fp32' || dtype === 'fp16' ? await ownBackend() : undefined;
  return own ? own.createWebGPUBackend() : createNodeBackend({ device: 'webgpu', threads });
}

async function ownBackend(): Promise<typeof import('@detailflow/backend-webgpu') | undefined> {
  try {
    await import('webgpu');
    return await import('@detailflow/backend-webgpu');
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const reason = code === 'ERR_MODULE_NOT_FOUND' ? '' : ` (${message.split('\n')[0]})`;
    showNotice(
      `WebGPU by ONNX Runtime${reason}: install @detailflow/backend-webgpu and webgpu beside detailflow for DetailFlow's own`,
    );
    return undefined;
  }
}
