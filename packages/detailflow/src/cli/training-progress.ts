import { type SourceUse, useLines } from '@detailflow/data';
import type { CodesProgress, StageProgress } from '@detailflow/train/node';
import { durationText } from './progress';

/** Milliseconds between lines where there is no terminal. */
const PAUSE = 30_000;

/** One line that is kept up to date on a terminal, a line now and then elsewhere. */
export function trainingProgress(stream: NodeJS.WriteStream, quiet: boolean) {
  let printed = Number.NEGATIVE_INFINITY;
  let isOpen = false;
  const show = (progress: StageProgress | CodesProgress) => {
    if (quiet) return;
    const now = performance.now();
    const text = lineOf(progress);
    if (stream.isTTY) {
      stream.write(`\r\u001b[K${text}`);
      isOpen = true;
    } else if (now - printed >= PAUSE) {
      stream.write(`${text}\n`);
      printed = now;
    }
  };
  /** What is trained on, and what is not used: said before hours are spent. */
  const data = (use: SourceUse) => {
    if (!quiet) stream.write(`${useLines(use).join('\n')}\n`);
  };
  const end = () => {
    if (isOpen) stream.write('\n');
    isOpen = false;
  };
  return { show, data, end };
}

function lineOf(progress: StageProgress | CodesProgress): string {
  if (progress.stage === 'codes') return `codes      ${progress.done}/${progress.total} images`;
  const { stage, step, steps, loss, samplesPerSecond, secondsLeft } = progress;
  const rate = samplesPerSecond.toFixed(samplesPerSecond < 10 ? 1 : 0);
  return `${stage.padEnd(10)} step ${step}/${steps}  loss ${loss.toFixed(4)}  ${rate} images/s  ${durationText(secondsLeft)} left`;
}
