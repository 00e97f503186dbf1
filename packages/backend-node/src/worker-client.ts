import { Worker } from 'node:worker_threads';
import { DetailFlowError } from '@detailflow/core';
import {
  Flag,
  type Message,
  type Reply,
  type Request,
  type WireTensor,
  type WorkerSettings,
} from './protocol';

type Tensors = Readonly<Record<string, WireTensor>>;

interface Pending {
  resolve(tensors: Tensors): void;
  reject(error: unknown): void;
}

/** How long a process that ends waits for the run under way, in milliseconds. */
const EXIT_PATIENCE = 10_000;

/**
 * The main thread's end of the worker. The worker keeps the process alive only while a request is under way, so a
 * program ends by itself even if it forgets to close its backend.
 */
export class WorkerClient {
  readonly #worker: Worker;
  readonly #pending = new Map<number, Pending>();
  readonly #flags = new Int32Array(new SharedArrayBuffer(8));
  readonly #ended: Promise<void>;
  /** A process that ends stops the worker. */
  readonly #waitForIdle = () => {
    Atomics.store(this.#flags, Flag.closing, 1);
    Atomics.wait(this.#flags, Flag.busy, 1, EXIT_PATIENCE);
  };
  #next = 0;
  #failure: DetailFlowError | undefined;

  constructor(settings: Omit<WorkerSettings, 'flags'>) {
    this.#flags[Flag.busy] = 1; // until it has loaded ONNX Runtime
    // `node --input-type=module --eval ...` hands its options on, and no worker can be started with those.
    const evaluated = process.execArgv.some((option) => option.startsWith('--input-type'));
    this.#worker = new Worker(new URL('./worker.js', import.meta.url), {
      workerData: { ...settings, flags: this.#flags } satisfies WorkerSettings,
      ...(evaluated && { execArgv: [] }),
    });
    this.#worker.on('message', (reply: Reply) => this.#settle(reply));
    this.#worker.on('error', (cause: Error) => {
      this.#flags[Flag.busy] = 0;
      const missing = /onnxruntime[-_]/.test(cause.message)
        ? '; reinstall it with "npm install onnxruntime-node" (add ONNXRUNTIME_NODE_INSTALL=skip to the environment where its CUDA download is blocked)'
        : '';
      this.#fail(`the worker thread of ONNX Runtime failed: ${cause.message}${missing}`, cause);
    });
    process.on('exit', this.#waitForIdle);
    this.#ended = new Promise((resolve) => {
      this.#worker.on('exit', () => {
        process.off('exit', this.#waitForIdle);
        this.#fail('the backend is closed');
        resolve();
      });
    });
    this.#worker.unref(); // after the listeners: one for messages keeps the process alive again
  }

  /** @throws DetailFlowError `closed`, or `runtime` when the worker has failed */
  requireOpen(): void {
    if (this.#failure) throw this.#failure;
  }

  async send(request: Request, transfer: readonly ArrayBuffer[] = []): Promise<Tensors> {
    this.requireOpen();
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      try {
        this.#worker.postMessage({ id, request } satisfies Message, transfer as ArrayBuffer[]);
      } catch (cause) {
        reject(
          new DetailFlowError('invalid-argument', `a tensor cannot be sent: ${(cause as Error).message}`, {
            cause,
          }),
        );
        return;
      }
      this.#pending.set(id, { resolve, reject });
      this.#worker.ref();
    });
  }

  /** Sends a request that frees something; there is nothing left to free once the worker is gone. */
  async free(request: Request): Promise<void> {
    if (this.#failure) return;
    await this.send(request).catch((error) => {
      if (!this.#failure) throw error;
    });
  }

  /** Rejects what is pending, and waits for the run under way: it cannot be stopped. */
  async close(): Promise<void> {
    this.#fail('the backend is closed');
    Atomics.store(this.#flags, Flag.closing, 1);
    this.#worker.ref();
    this.#worker.postMessage('close' satisfies Message);
    await this.#ended;
  }

  #settle(reply: Reply): void {
    const pending = this.#pending.get(reply.id);
    this.#pending.delete(reply.id);
    if (this.#pending.size === 0 && !this.#failure) this.#worker.unref();
    if ('error' in reply) pending?.reject(new DetailFlowError('runtime', `ONNX Runtime: ${reply.error}`));
    else pending?.resolve(reply.tensors);
  }

  #fail(message: string, cause?: unknown): void {
    this.#failure ??= new DetailFlowError(cause ? 'runtime' : 'closed', message, { cause });
    for (const { reject } of this.#pending.values()) reject(this.#failure);
    this.#pending.clear();
  }
}
