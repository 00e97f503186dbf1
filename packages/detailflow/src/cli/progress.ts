import { SingleBar } from 'cli-progress';

/** Shows how far a command has come. */
export interface Progress {
  start(total: number, unit: string): void;
  advance(by?: number): void;
  stop(): void;
}

/** A bar with rate and time left on a terminal's standard error; silent elsewhere and with --json. */
export function createProgress(quiet: boolean): Progress {
  if (quiet || !process.stderr.isTTY) return { start() {}, advance() {}, stop() {} };
  const bar = new SingleBar({
    stream: process.stderr,
    clearOnComplete: true,
    hideCursor: true,
    format: '{bar} {value}/{total} {unit}  {rate}/s  {eta_formatted} left',
  });
  let started = 0;
  let done = 0;
  return {
    start(total, unit) {
      started = performance.now();
      done = 0;
      bar.start(total, 0, { unit, rate: '-' });
    },
    advance(by = 1) {
      done += by;
      bar.increment(by, { rate: ((1000 * done) / (performance.now() - started)).toFixed(1) });
    },
    stop: () => bar.stop(),
  };
}
