import { DetailFlowError } from '@detailflow/core';
import type { HubSettings } from './hub-options';

/** A fault that may pass: asked again after `wait` milliseconds, where the server says so. */
export class Passing extends Error {
  override readonly name = 'Passing';

  constructor(
    readonly error: DetailFlowError,
    readonly wait?: number,
  ) {
    super(error.message, { cause: error });
  }
}

const LONGEST_DELAY = 8000;

/**
 * Does `work` until it succeeds, throws something that does not pass, or has failed too often.
 * @param work says with its argument that it got further, so that faults before do not count
 */
export async function retrying<T>(
  settings: HubSettings,
  work: (gotFurther: () => void) => Promise<T>,
): Promise<T> {
  const { retries, retryDelay, longestWait, signal, onNotice } = settings;
  for (let failed = 0; ; ) {
    try {
      signal?.throwIfAborted();
      return await work(() => {
        failed = 0;
      });
    } catch (fault) {
      signal?.throwIfAborted();
      if (!(fault instanceof Passing)) throw fault;
      failed++;
      if (failed > retries) throw fault.error;
      const backoff = Math.min(retryDelay * 2 ** (failed - 1), LONGEST_DELAY) * (0.75 + Math.random() / 2);
      const wait = Math.max(fault.wait ?? 0, backoff);
      if ((fault.wait ?? 0) > longestWait) {
        throw new DetailFlowError(
          fault.error.code,
          `${fault.error.message}; it asks to wait ${Math.ceil(wait / 1000)} s, more than the ${longestWait / 1000} s that are waited`,
          { cause: fault.error },
        );
      }
      onNotice?.(`${fault.error.message}: trying again in ${(wait / 1000).toFixed(1)} s`);
      await pause(wait, signal);
    }
  }
}

/** Whether a status may be another one soon. */
export const mayPass = (status: number): boolean => status === 408 || status === 429 || status >= 500;

/** Milliseconds that a server asks to wait: `RateLimit: "x";r=0;t=55`, or `Retry-After` in seconds or as a date. */
export function askedWait(header: (name: string) => string | undefined): number | undefined {
  const limit = /(?:^|;)\s*t=(\d{1,9})\b/.exec(header('ratelimit') ?? '')?.[1];
  const after = header('retry-after')?.trim();
  if (after !== undefined && /^\d{1,9}$/.test(after)) return Number(after) * 1000;
  if (limit !== undefined) return Number(limit) * 1000;
  const date = Date.parse(after ?? '');
  return Number.isNaN(date) ? undefined : Math.max(0, date - Date.now());
}

function pause(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', stop);
      resolve();
    }, milliseconds);
    signal?.addEventListener('abort', stop, { once: true });
  });
}
