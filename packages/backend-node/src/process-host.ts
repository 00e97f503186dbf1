import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { ErrorCode } from '@detailflow/core';
import type { Message, Reply, RuntimeSettings } from './protocol';
import type { HostEvents, RuntimeHost } from './runtime-host';
import { quietEnvironment } from './telemetry';

/**
 * ONNX Runtime in a process of its own, for GPUs, whose drivers may crash, and for backends that are made in a worker
 * thread. Whoever owns that thread may terminate it at any moment, and a thread that is stopped inside ONNX Runtime takes
 * the whole process down with it; neither does the environment of a thread reach native code. Arrays are copied through a
 * pipe. The process ends with its backend, its thread or its parent, after the run under way.
 */
export class ProcessHost implements RuntimeHost {
  readonly mostBytes = 2 ** 26;
  readonly #child: ChildProcess;

  constructor(settings: RuntimeSettings, events: HostEvents) {
    const script = fileURLToPath(new URL('./worker-process.js', import.meta.url));
    this.#child = fork(script, [JSON.stringify(settings)], {
      serialization: 'advanced',
      execArgv: [],
      env: quietEnvironment(),
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    let failed = false;
    const fail = (message: string, cause: unknown, code?: ErrorCode) => {
      failed = true;
      events.onFailure(message, cause, code);
    };
    const report = (cause: Error) => fail(`the process of ONNX Runtime failed: ${cause.message}`, cause);
    this.#child.on('message', (reply: Reply | { failure: string }) => {
      if ('failure' in reply) report(new Error(reply.failure));
      else events.onReply(reply);
    });
    this.#child.on('error', report);
    this.#child.on('exit', (code, signal) => {
      if (code !== 0 && !failed) {
        const how = signal ?? `exit code ${code}`;
        const cause = new Error(how);
        if (settings.device === 'cpu') fail(`the process of ONNX Runtime ended by itself: ${how}`, cause);
        else fail(crash(settings.device, how), cause, 'device-lost');
      }
      events.onEnd();
    });
    this.hold(false);
  }

  post(message: Message): void {
    this.#child.send(message, () => {}); // a message that cannot be delivered ends in `exit`
  }

  hold(held: boolean): void {
    if (held) {
      this.#child.ref();
      this.#child.channel?.ref();
    } else {
      this.#child.unref();
      this.#child.channel?.unref();
    }
  }

  close(): void {
    if (this.#child.connected) this.post('close');
  }
}

const crash = (device: string, how: string): string =>
  `the device "${device}" is lost: its driver, or ONNX Runtime on it, crashed (${how}); update the driver of the GPU, ` +
  'compute fewer pictures at once, or choose device "cpu"';
