/** Shows how far a command has come. */
export interface Progress {
  /** @param unit what is counted; 'bytes' are shown in megabytes */
  start(total: number, unit: string): void;
  advance(by?: number): void;
  stop(): void;
}

/** Milliseconds between lines where there is no terminal. */
const PAUSE = 10_000;

/**
 * A bar with rate and time left on a terminal, a line now and then where standard error goes elsewhere, nothing when
 * `quiet`. A command that is done within the first pause prints no line.
 */
export async function createProgress(options: {
  readonly quiet: boolean;
  readonly stream?: NodeJS.WriteStream;
}): Promise<Progress> {
  const { quiet, stream = process.stderr } = options;
  if (quiet) return { start() {}, advance() {}, stop() {} };
  const show = stream.isTTY ? await barOn(stream) : linesOn(stream);
  let started = 0;
  let done = 0;
  let total = 0;
  let unit = '';
  const text = () => progressText({ done, total, unit, seconds: (performance.now() - started) / 1000 });
  return {
    start(all, counted) {
      started = performance.now();
      [done, total, unit] = [0, all, counted];
      show.start(total, text());
    },
    advance(by = 1) {
      done += by;
      show.update(done, text());
    },
    stop: () => show.stop(),
  };
}

/** Shows how far a piece of work says that it is; its first word starts the showing. */
export function following(
  progress: Progress,
): (state: { readonly done: number; readonly total: number; readonly unit: string }) => void {
  let known: number | undefined;
  return ({ done, total, unit }) => {
    if (known === undefined) progress.start(total, unit);
    progress.advance(done - (known ?? 0));
    known = done;
  };
}

async function barOn(stream: NodeJS.WriteStream) {
  const { SingleBar } = await import('cli-progress');
  const bar = new SingleBar({
    stream,
    clearOnComplete: true,
    barsize: 30,
    barCompleteChar: '\u2588',
    barIncompleteChar: '\u2591',
    format: '{bar} {state}',
  });
  return {
    start: (total: number, state: string) => bar.start(total, 0, { state }),
    update: (done: number, state: string) => bar.update(done, { state }),
    stop: () => bar.stop(),
  };
}

function linesOn(stream: NodeJS.WriteStream) {
  let printed = performance.now();
  return {
    start() {},
    update(_: number, state: string) {
      const now = performance.now();
      if (now - printed < PAUSE) return;
      printed = now;
      stream.write(`${state}\n`);
    },
    stop() {},
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
