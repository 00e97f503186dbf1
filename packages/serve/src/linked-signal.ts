/** A signal that others can abort as well. */
export interface LinkedSignal {
  readonly signal: AbortSignal;
  abort(reason: unknown): void;
  /** Lets go of the others, which may live much longer. */
  release(): void;
}

/** A signal that is aborted as soon as one of the given ones is, with its reason, or after `seconds`. */
export function linkSignals(
  signals: readonly (AbortSignal | undefined)[],
  limit?: { readonly seconds: number; readonly reason: () => unknown },
): LinkedSignal {
  const controller = new AbortController();
  const links = signals.flatMap((one) => {
    if (!one) return [];
    const abort = () => controller.abort(one.reason);
    if (one.aborted) abort();
    else one.addEventListener('abort', abort, { once: true });
    return [() => one.removeEventListener('abort', abort)];
  });
  const timer = limit && setTimeout(() => controller.abort(limit.reason()), limit.seconds * 1000);
  return {
    signal: controller.signal,
    abort: (reason) => controller.abort(reason),
    release() {
      clearTimeout(timer);
      for (const unlink of links) unlink();
    },
  };
}
