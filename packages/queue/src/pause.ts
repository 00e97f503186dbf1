/** Waits, but no longer than until `signal` is aborted; then it throws its reason. */
export function pause(milliseconds: number, signal?: AbortSignal): Promise<void> {
  let timer: NodeJS.Timeout;
  const time = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, milliseconds);
  });
  return unlessAborted(time, signal).finally(() => clearTimeout(timer));
}

/** Waits until there is an `answer`, whichever, but so many milliseconds at most; no timer is left, which would keep the process. */
export async function atMost(milliseconds: number, answer: Promise<unknown>): Promise<void> {
  const come = new AbortController();
  const end = () => come.abort();
  answer.then(end, end);
  await pause(milliseconds, come.signal).catch(() => {});
}

/** What `answer` gives, unless `signal` is aborted first; then it throws its reason. */
export function unlessAborted<T>(answer: Promise<T>, signal?: AbortSignal): Promise<T> {
  if (!signal) return answer;
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort, { once: true });
    answer.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}
