import type { HubProgress } from './hub-options';

/** Adds up the progress of several files. */
export class Tally {
  readonly #files = new Map<string, { done: number; total: number }>();

  constructor(readonly onProgress?: (progress: HubProgress) => void) {}

  /** A file that will be fetched. */
  expect(file: string, total: number): void {
    if (!this.#files.has(file)) this.#files.set(file, { done: 0, total });
  }

  /** Bytes of a file that are there now; fewer than before when it begins anew. */
  set(file: string, done: number): void {
    const entry = this.#files.get(file);
    if (!entry || !this.onProgress) return;
    entry.done = done;
    const all = [...this.#files.values()];
    this.onProgress({
      file,
      done,
      total: entry.total,
      allDone: all.reduce((sum, one) => sum + one.done, 0),
      allTotal: all.reduce((sum, one) => sum + one.total, 0),
    });
  }
}
