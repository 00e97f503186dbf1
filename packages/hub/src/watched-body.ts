import { DetailFlowError } from '@detailflow/core';
import type { HubSettings } from './hub-options';
import { Passing } from './retry';

/** Bytes that must arrive in every `stallTimeout`, so that a server that drips does not hold a transfer for ever. */
const LEAST = 1024;

/** Watches that a transfer gets on, from its request to its last byte. */
export class Watch {
  readonly #limit = new AbortController();
  readonly #timer: ReturnType<typeof setInterval>;
  #arrived = 0;
  #begun = false;

  constructor(
    readonly settings: HubSettings,
    readonly what: string,
  ) {
    this.#timer = setInterval(() => {
      if (this.#arrived < LEAST) this.#limit.abort();
      this.#arrived = 0;
    }, settings.stallTimeout);
  }

  /** For the request. */
  get signal(): AbortSignal {
    const { signal } = this.settings;
    return signal ? AbortSignal.any([signal, this.#limit.signal]) : this.#limit.signal;
  }

  /** The parts of a body as they come. @throws Passing when it breaks off or stalls */
  async *parts(response: Response): AsyncGenerator<Uint8Array<ArrayBuffer>> {
    const reader = response.body?.getReader();
    this.#begun = true;
    try {
      for (let part = await reader?.read(); part && !part.done; part = await reader?.read()) {
        this.#arrived += part.value.length;
        yield part.value as Uint8Array<ArrayBuffer>;
      }
    } catch (cause) {
      throw this.fault(cause);
    } finally {
      await reader?.cancel().catch(() => {}); // it may have failed already, which was said
    }
  }

  /** What a failure means: the caller's wish to stop, a stall, or a broken line; others stay as they are. */
  fault(cause: unknown): unknown {
    const { signal, stallTimeout } = this.settings;
    signal?.throwIfAborted();
    if (cause instanceof Passing) return cause;
    if (this.#limit.signal.aborted) {
      const message = `less than ${LEAST} bytes came in ${stallTimeout / 1000} s`;
      return new Passing(new DetailFlowError('network', message, { file: this.what, cause }));
    }
    if (DetailFlowError.isInstance(cause)) return cause.code === 'network' ? new Passing(cause) : cause;
    if (!this.#begun) return cause;
    return new Passing(new DetailFlowError('network', 'the transfer broke off', { file: this.what, cause }));
  }

  end(): void {
    clearInterval(this.#timer);
  }
}
