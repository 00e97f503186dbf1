import type { StateEntries } from '@detailflow/core';
import type { OnnxState } from '@detailflow/onnx';

/** Devices ONNX Runtime can run on in Node. */
export type NodeDevice = 'cpu' | 'cuda' | 'webgpu';

/** A tensor as it crosses the thread boundary. */
export interface WireTensor {
  readonly type: 'float32' | 'int32' | 'bool';
  readonly data: Float32Array | Int32Array | Uint8Array;
  readonly dims: readonly number[];
}

export interface RuntimeSettings {
  readonly device: NodeDevice;
  readonly threads: number;
  /** Where profiles of the sessions are written: the beginning of their paths. */
  readonly profile?: string;
}

export interface WorkerSettings extends RuntimeSettings {
  /** Shared memory, see {@link Flag}. */
  readonly flags: Int32Array;
}

/**
 * Places of the flags that both threads see. ONNX Runtime aborts the whole process when its thread is stopped inside
 * a call, so the worker is never stopped while it is busy.
 */
export const Flag = {
  /** Set by the main thread: start nothing any more. */
  closing: 0,
  /** Set while the worker loads or calls ONNX Runtime. */
  busy: 1,
} as const;

/** State as the worker needs it: how its buffers are called and brought up to date. */
export type WireState = Omit<OnnxState, 'shape' | 'dtype'>;

/** Requests to the worker; each is answered by one {@link Reply} with the same id. */
export type Request =
  | {
      /** A part of the weights of a session that is loaded next. */
      readonly kind: 'fill';
      readonly session: number;
      readonly size: number;
      readonly at: number;
      readonly data: Uint8Array;
    }
  | {
      readonly kind: 'load';
      readonly session: number;
      readonly model: Uint8Array;
      /** Folder of the files that hold weights. */
      readonly folder?: string;
      /** Weights that are not in a file, as one block; without data where `fill` has sent it. */
      readonly memory?: { readonly name: string; readonly data?: Uint8Array };
      readonly states: readonly WireState[];
    }
  | {
      readonly kind: 'run';
      readonly session: number;
      readonly feeds: Readonly<Record<string, WireTensor>>;
      readonly outputs: readonly string[];
      readonly state?: number;
      /** Entries of the first axis of its buffers that the run works on; all unless given. */
      readonly window?: StateEntries;
    }
  | {
      readonly kind: 'create-state';
      readonly state: number;
      /** Zeros where there are no data. */
      readonly buffers: Readonly<Record<string, Omit<WireTensor, 'data'> & Partial<WireTensor>>>;
    }
  | { readonly kind: 'read-state'; readonly state: number; readonly name: string }
  | {
      readonly kind: 'write-state';
      readonly state: number;
      readonly name: string;
      readonly tensor: WireTensor;
    }
  | { readonly kind: 'copy-entry'; readonly state: number; readonly from: number; readonly to: number }
  | {
      readonly kind: 'resize-state';
      readonly state: number;
      readonly axis: number;
      readonly extent: number;
      /** Entries of the first axis that are to be kept; all unless given. */
      readonly entries?: StateEntries;
    }
  | { readonly kind: 'drop-state'; readonly state: number }
  | { readonly kind: 'release'; readonly session: number };

/** What the main thread sends: requests, and at last the wish that the worker ends. */
export type Message = { readonly id: number; readonly request: Request } | 'close';

export type Reply =
  | { readonly id: number; readonly tensors: Readonly<Record<string, WireTensor>> }
  | { readonly id: number; readonly error: string };
