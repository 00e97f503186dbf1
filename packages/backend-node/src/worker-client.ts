import { Worker } from 'node:worker_threads';
import { DetailFlowError } from '@detailflow/core';
import type { Reply, Request, WireTensor, WorkerSettings } from './protocol';

type Tensors = Readonly<Record<string, WireTensor>>;

interface Pending {
  resolve(tensors: Tensors): void;
  reject(error: unknown): void;
}

/**
 * The main thread's end of the worker. The worker keeps the process alive only while a request is under way, so a
 * program ends by itself even if it forgets to close its backend.
 */
export class WorkerClient {
  readonly #worker: Worker;
  readonly #pending = new Map<number, Pending>();
  #next = 0;
  #failure: DetailFlowError | undefined;

  constructor(settings: WorkerSettings) {
    this.#worker = new Worker(new URL('./worker.js', import.meta.url), { workerData: settings });
    this.#worker.unref();
    this.#worker.on('message', (reply: Reply) => this.#settle(reply));
    this.#worker.on('error', (cause) => this.#fail('the worker thread of ONNX Runtime failed', cause));
    this.#worker.on('exit', () => this.#fail('the backend is closed'));
  }

  async send(request: Request, transfer: readonly ArrayBuffer[] = []): Promise<Tensors> {
    if (this.#failure) throw this.#failure;
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve, reject });
      this.#worker.ref();
      this.#worker.postMessage({ id, request }, transfer as ArrayBuffer[]);
    });
  }

  async close(): Promise<void> {
    this.#failure ??= new DetailFlowError('closed', 'the backend is closed');
    await this.#worker.terminate();
  }

  #settle(reply: Reply): void {
    const pending = this.#pending.get(reply.id);
    this.#pending.delete(reply.id);
    if (this.#pending.size === 0) this.#worker.unref();
    if ('error' in reply) pending?.reject(new DetailFlowError('runtime', `ONNX Runtime: ${reply.error}`));
    else pending?.resolve(reply.tensors);
  }

  #fail(message: string, cause?: unknown): void {
    this.#failure ??= new DetailFlowError(cause ? 'runtime' : 'closed', message, { cause });
    for (const { reject } of this.#pending.values()) reject(this.#failure);
    this.#pending.clear();
  }
}
