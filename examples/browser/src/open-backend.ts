import { createWebGPUBackend } from '@detailflow/backend-webgpu';
import { type Backend, DetailFlowError } from '@detailflow/core';
import { createReferenceBackend } from '@detailflow/core/reference';

export interface OpenedBackend {
  readonly backend: Backend;
  /** What computes, for people. */
  readonly device: string;
  /** Takes seconds for a picture: few previews are drawn then. */
  readonly isSlow: boolean;
  /** What a visitor should know about it; may be empty. */
  readonly note: string;
}

/** The graphics card; the processor where there is no WebGPU, by core's interpreter, which costs no further bytes. */
export async function openBackend(): Promise<OpenedBackend> {
  try {
    const backend = await createWebGPUBackend();
    const { vendor, architecture } = backend.device.adapterInfo ?? {};
    return {
      ...{ backend, isSlow: false, note: '' },
      device: [vendor, architecture].filter(Boolean).join(' ') || 'WebGPU',
    };
  } catch (error) {
    if (!(DetailFlowError.isInstance(error) && error.code === 'device-unavailable')) throw error;
    return {
      ...{ backend: createReferenceBackend(), device: 'the processor', isSlow: true },
      note:
        'This browser has no WebGPU, so the processor draws, without haste: expect ten seconds or more for a picture. ' +
        'Current Chrome, Edge, Safari and Firefox have it; on Linux it may have to be switched on.',
    };
  }
}
