import type { ClassifierProgress, CodesProgress, StageProgress } from '@detailflow/train/node';
import { durationText } from './progress';

/** Milliseconds between lines where there is no terminal. */
const PAUSE = 30_000;

/** One line that is kept up to date on a terminal, a line now and then elsewhere. */
export function trainingProgress(stream: NodeJS.WriteStream, quiet: boolean) {
  let printed = Number.NEGATIVE_INFINITY;
  let isOpen = false;
  const show = (progress: Progress) => {
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
  const end = () => {
    if (isOpen) stream.write('\n');
    isOpen = false;
  };
  return { show, end };
}

type Progress = StageProgress | CodesProgress | ClassifierProgress;

function lineOf(progress: Progress): string {
  if (progress.stage === 'codes') return `codes      ${progress.done}/${progress.total} images`;
  if (progress.stage === 'classifier') {
    const { step, steps, loss } = progress;
    return `classifier step ${step}/${steps}  loss ${loss.toFixed(4)}`;
  }
  const { stage, step, steps, loss, samplesPerSecond, secondsLeft } = progress;
  const made = `${stage.padEnd(10)} step ${step}/${steps}  loss ${loss.toFixed(4)}`;
  if (samplesPerSecond === undefined || secondsLeft === undefined) return made;
  const rate = samplesPerSecond.toFixed(samplesPerSecond < 10 ? 1 : 0);
  return `${made}  ${rate} images/s  ${durationText(secondsLeft)} left`;
}
