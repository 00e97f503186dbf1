import { Worker } from 'node:worker_threads';
import { Flag, type Message, type Reply, type RuntimeSettings, type WorkerSettings } from './protocol';
import type { HostEvents, RuntimeHost } from './runtime-host';
import { disableTelemetry } from './telemetry';

/** How long a process that ends waits for the run under way, in milliseconds. */
const EXIT_PATIENCE = 10_000;

/** ONNX Runtime in a worker thread of this process: memory is handed over, not copied. */
export class ThreadHost implements RuntimeHost {
  readonly mostBytes = Number.POSITIVE_INFINITY;
  readonly #worker: Worker;
  readonly #flags = new Int32Array(new SharedArrayBuffer(8));
  /** A process that ends stops the worker. */
  readonly #waitForIdle = () => {
    Atomics.store(this.#flags, Flag.closing, 1);
    Atomics.wait(this.#flags, Flag.busy, 1, EXIT_PATIENCE);
  };

  constructor(settings: RuntimeSettings, events: HostEvents) {
    disableTelemetry();
    this.#flags[Flag.busy] = 1; // until it has loaded ONNX Runtime
    // `node --input-type=module --eval ...` hands its options on, and no worker can be started with those.
    const evaluated = process.execArgv.some((option) => option.startsWith('--input-type'));
    this.#worker = new Worker(new URL('./worker.js', import.meta.url), {
      workerData: { ...settings, flags: this.#flags } satisfies WorkerSettings,
      ...(evaluated && { execArgv: [] }),
    });
    this.#worker.on('message', (reply: Reply) => events.onReply(reply));
    this.#worker.on('error', (cause: Error) => {
      this.#flags[Flag.busy] = 0;
      events.onFailure(`the worker thread of ONNX Runtime failed: ${cause.message}`, cause);
    });
    process.on('exit', this.#waitForIdle);
    this.#worker.on('exit', () => {
      process.off('exit', this.#waitForIdle);
      events.onEnd();
    });
    this.#worker.unref(); // after the listeners: one for messages keeps the process alive again
  }

  post(message: Message, transfer: readonly ArrayBuffer[]): void {
    this.#worker.postMessage(message, transfer);
  }

  hold(held: boolean): void {
    if (held) this.#worker.ref();
    else this.#worker.unref();
  }

  close(): void {
    Atomics.store(this.#flags, Flag.closing, 1);
    this.#worker.postMessage('close' satisfies Message);
  }
}
