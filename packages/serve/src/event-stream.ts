/** Seconds between signs of life on a stream that has nothing to say. */
const HEARTBEAT = 15;

/** Seconds for the last event of a stream that was aborted to be read; then the connection is cut. */
const LAST_EVENT = 5;

/**
 * Objects as server-sent events, a `data:` line each. What comes slowly is bridged by comments, so that no proxy takes the
 * stream for dead; whoever stops reading stops the iteration.
 */
export function eventStream(
  events: AsyncGenerator<object, void, void>,
  { signal, onCancel }: { readonly signal: AbortSignal; readonly onCancel: () => void },
): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  let pending: Promise<IteratorResult<object, void>> | undefined;
  let onAbort = () => {};
  return new ReadableStream<Uint8Array>({
    start(controller) {
      controller.enqueue(encoder.encode(': ok\n\n')); // sends the headers
      onAbort = () => {
        setTimeout(() => controller.error(signal.reason), LAST_EVENT * 1000).unref();
      };
      signal.addEventListener('abort', onAbort, { once: true });
    },
    async pull(controller) {
      pending ??= events.next();
      let timer: NodeJS.Timeout | undefined;
      const silence = new Promise<'silence'>((resolve) => {
        timer = setTimeout(resolve, HEARTBEAT * 1000, 'silence');
      });
      const next = await Promise.race([pending, silence]).finally(() => clearTimeout(timer));
      if (next === 'silence') {
        controller.enqueue(encoder.encode(': wait\n\n'));
        return;
      }
      pending = undefined;
      if (!next.done) {
        controller.enqueue(encoder.encode(`data: ${JSON.stringify(next.value)}\n\n`));
        return;
      }
      controller.close();
      signal.removeEventListener('abort', onAbort);
    },
    async cancel() {
      signal.removeEventListener('abort', onAbort);
      onCancel();
      await events.return();
    },
  });
}
