import { constants } from 'node:os';
import { InterruptedError } from './command';

/** Package runners hand on the signal that the terminal has sent already: that is no second one. Milliseconds. */
const SAME = 250;

const names = ['SIGINT', 'SIGTERM'] as const;

export interface Interruptions {
  /** Aborted by the first Ctrl-C, or when the process is asked to end. */
  readonly signal: AbortSignal;
  /** What shells expect of a program that was ended so: 130 for Ctrl-C, 143 for SIGTERM. */
  readonly exitCode: number;
  /** Listens no longer. */
  end(): void;
}

/**
 * Listens for Ctrl-C and SIGTERM. The first asks the command to stop where it can go on from; the second ends the process
 * at once, by the signal itself. Files are never half-written: they appear by being moved into place.
 */
export function interruptions(): Interruptions {
  const controller = new AbortController();
  let first = 0;
  let exitCode = 0;
  const listener = (name: NodeJS.Signals) => {
    const now = performance.now();
    if (controller.signal.aborted) {
      if (now - first < SAME) return;
      process.removeAllListeners(name);
      process.kill(process.pid, name);
      process.exit(exitCode); // a process of number 1 does not die of its own signals
    }
    first = now;
    exitCode = 128 + constants.signals[name];
    controller.abort();
  };
  for (const name of names) process.on(name, listener);
  return {
    signal: controller.signal,
    get exitCode() {
      return exitCode;
    },
    end() {
      for (const name of names) process.off(name, listener);
    },
  };
}

/** Whether an error is how an interrupted command ends, and no fault that happened while it stopped. */
export function wasInterrupted(error: unknown, signal: AbortSignal): boolean {
  if (!signal.aborted) return false;
  for (let one: unknown = error; one instanceof Error; one = one.cause) {
    if (one === signal.reason || one instanceof InterruptedError) return true;
  }
  return error === signal.reason;
}
