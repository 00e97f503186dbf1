import { SingleBar } from 'cli-progress';

/** Shows how far a command has come. */
export interface Progress {
  /** @param unit what is counted; 'bytes' are shown in megabytes */
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
    barsize: 30,
    barCompleteChar: '\u2588',
    barIncompleteChar: '\u2591',
    format: '{bar} {state}',
  });
  let started = 0;
  let done = 0;
  let total = 0;
  let unit = '';
  return {
    start(all, counted) {
      started = performance.now();
      [done, total, unit] = [0, all, counted];
      bar.start(total, 0, { state: progressText({ done, total, unit, seconds: 0 }) });
    },
    advance(by = 1) {
      done += by;
      const seconds = (performance.now() - started) / 1000;
      bar.update(done, { state: progressText({ done, total, unit, seconds }) });
    },
    stop: () => bar.stop(),
  };
}

/** "512/12800 tokens  3459/s  4s left"; rate and time only once something is done. */
export function progressText(state: { done: number; total: number; unit: string; seconds: number }): string {
  const { done, total, unit, seconds } = state;
  const megabytes = unit === 'bytes';
  const count = (n: number) => (megabytes ? (n / 1e6).toFixed(1) : String(n));
  const parts = [`${count(done)}/${count(total)} ${megabytes ? 'MB' : unit}`];
  if (done > 0 && seconds > 0) {
    const rate = done / seconds;
    const shown = megabytes ? `${(rate / 1e6).toFixed(1)} MB` : rate.toFixed(rate < 10 ? 1 : 0);
    parts.push(`${shown}/s`, `${durationText((total - done) / rate)} left`);
  }
  return parts.join('  ');
}

/** "4s", "3m20s", "2h5m". */
export function durationText(seconds: number): string {
  const whole = Math.ceil(seconds);
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  if (h > 0) return `${h}h${m}m`;
  return m > 0 ? `${m}m${s}s` : `${s}s`;
}
