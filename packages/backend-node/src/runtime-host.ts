import type { ErrorCode } from '@detailflow/core';
import type { Message, Reply } from './protocol';

/** Where ONNX Runtime runs, away from the thread that asks: a thread of its own, or a process of its own. */
export interface RuntimeHost {
  /** Bytes of a message: what holds more is sent in parts. */
  readonly mostBytes: number;
  post(message: Message, transfer: readonly ArrayBuffer[]): void;
  /** Keeps this process alive, or no longer. */
  hold(held: boolean): void;
  /** Asks it to end after the run under way, which cannot be stopped. */
  close(): void;
}

export interface HostEvents {
  onReply(reply: Reply): void;
  /** It has failed to start, or crashed; the code of the error is `runtime` unless given. */
  onFailure(message: string, cause: unknown, code?: ErrorCode): void;
  onEnd(): void;
}
