import { constants } from 'node:os';

type Signal = 'SIGINT' | 'SIGTERM';

/**
 * Turns the first Ctrl-C or SIGTERM into an abort, so that what runs can end in order. The second one ends the process
 * at once, as if this did not exist.
 */
export class Interruption implements Disposable {
  readonly #controller = new AbortController();
  readonly #onInterrupt: () => void;
  #received: Signal | undefined;

  /** @param onInterrupt called once, as soon as the signal comes */
  constructor(onInterrupt: () => void = () => {}) {
    this.#onInterrupt = onInterrupt;
    process.on('SIGINT', this.#interrupt).on('SIGTERM', this.#interrupt);
  }

  /** Aborted by the first Ctrl-C. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** What a shell expects of a program that a signal has ended: 130 after Ctrl-C, 143 after SIGTERM. */
  get exitCode(): number | undefined {
    return this.#received && 128 + constants.signals[this.#received];
  }

  [Symbol.dispose](): void {
    process.off('SIGINT', this.#interrupt).off('SIGTERM', this.#interrupt);
  }

  readonly #interrupt = (received: Signal): void => {
    this[Symbol.dispose]();
    this.#received = received;
    this.#onInterrupt();
    this.#controller.abort();
  };
}

/** Whether an error says that work was given up, itself or as the cause of what it says. */
export function isAbort(error: unknown): boolean {
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 8; at = at.cause, depth++) {
    if (at.name === 'AbortError') return true;
  }
  return false;
}
