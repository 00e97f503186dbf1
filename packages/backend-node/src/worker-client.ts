import { isMainThread } from 'node:worker_threads';
import { DetailFlowError, type ErrorCode } from '@detailflow/core';
import { ProcessHost } from './process-host';
import type { Reply, Request, RuntimeSettings, WireTensor } from './protocol';
import type { HostEvents, RuntimeHost } from './runtime-host';
import { ThreadHost } from './thread-host';

type Tensors = Readonly<Record<string, WireTensor>>;

interface Pending {
  resolve(tensors: Tensors): void;
  reject(error: unknown): void;
}

/**
 * This end of ONNX Runtime: sends requests, and gives answers back. The runtime keeps the process alive only while a
 * request is under way, so a program ends by itself even if it forgets to close its backend.
 */
export class WorkerClient {
  readonly #host: RuntimeHost;
  readonly #pending = new Map<number, Pending>();
  readonly #ended: Promise<void>;
  #next = 0;
  #failure: DetailFlowError | undefined;

  constructor(settings: RuntimeSettings) {
    let end: () => void;
    this.#ended = new Promise((resolve) => {
      end = resolve;
    });
    const events: HostEvents = {
      onReply: (reply) => this.#settle(reply),
      onFailure: (message, cause, code = 'runtime') =>
        this.#fail(`${message}${remedy(message)}`, code, cause),
      onEnd: () => {
        this.#fail('the backend is closed');
        end();
      },
    };
    const isThread = isMainThread && settings.device === 'cpu';
    this.#host = isThread ? new ThreadHost(settings, events) : new ProcessHost(settings, events);
  }

  /** @throws DetailFlowError `closed`, or `runtime` or `device-lost` when the runtime has failed */
  requireOpen(): void {
    if (this.#failure) throw this.#failure;
  }

  async send(request: Request, transfer: readonly ArrayBuffer[] = []): Promise<Tensors> {
    if (request.kind !== 'load' || (request.memory?.data?.length ?? 0) <= this.#host.mostBytes) {
      return this.#send(request, transfer);
    }
    const { name, data } = request.memory as { name: string; data: Uint8Array };
    const { session } = request;
    for (let at = 0; at < data.length; at += this.#host.mostBytes) {
      const part = data.subarray(at, at + this.#host.mostBytes);
      await this.#send({ kind: 'fill', session, size: data.length, at, data: part });
    }
    return this.#send({ ...request, memory: { name } });
  }

  /** Sends a request that frees something; there is nothing left to free once the runtime is gone. */
  async free(request: Request): Promise<void> {
    if (this.#failure) return;
    await this.send(request).catch((error) => {
      if (!this.#failure) throw error;
    });
  }

  /** Rejects what is pending, and waits for the run under way: it cannot be stopped. */
  async close(): Promise<void> {
    this.#fail('the backend is closed');
    this.#host.hold(true);
    this.#host.close();
    await this.#ended;
  }

  #send(request: Request, transfer: readonly ArrayBuffer[] = []): Promise<Tensors> {
    this.requireOpen();
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      try {
        this.#host.post({ id, request }, transfer);
      } catch (cause) {
        reject(
          new DetailFlowError('invalid-argument', `a tensor cannot be sent: ${(cause as Error).message}`, {
            cause,
          }),
        );
        return;
      }
      this.#pending.set(id, { resolve, reject });
      this.#host.hold(true);
    });
  }

  #settle(reply: Reply): void {
    const pending = this.#pending.get(reply.id);
    this.#pending.delete(reply.id);
    if (this.#pending.size === 0 && !this.#failure) this.#host.hold(false);
    if ('error' in reply) pending?.reject(new DetailFlowError('runtime', `ONNX Runtime: ${reply.error}`));
    else pending?.resolve(reply.tensors);
  }

  #fail(message: string, code: ErrorCode = 'closed', cause?: unknown): void {
    this.#failure ??= new DetailFlowError(code, message, { cause });
    for (const { reject } of this.#pending.values()) reject(this.#failure);
    this.#pending.clear();
  }
}

const remedy = (message: string): string =>
  /onnxruntime[-_]/.test(message)
    ? '; if its files are damaged or missing, remove node_modules/onnxruntime-node and run "npm install --ignore-scripts"'
    : '';
