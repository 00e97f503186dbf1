import { type SourceUse, useLines } from '@detailflow/data';
import type { ClassifierProgress, CodesProgress, StageProgress } from '@detailflow/train/node';
import { durationText } from './progress';

/** Milliseconds between lines where there is no terminal. */
const PAUSE = 30_000;

/** One line that is kept up to date on a terminal, a line now and then elsewhere. */
export function trainingProgress(stream: NodeJS.WriteStream, quiet: boolean) {
  /** When the last line of a stage was printed; images are read without a word if that is quickly done. */
  const printed = new Map<string, number>([['images', performance.now()]]);
  let isOpen = false;
  const show = (progress: Progress) => {
    if (quiet) return;
    const now = performance.now();
    const text = lineOf(progress);
    if (stream.isTTY) {
      stream.write(`\r\u001b[K${text}`);
      isOpen = true;
    } else if (now - (printed.get(progress.stage) ?? Number.NEGATIVE_INFINITY) >= PAUSE) {
      stream.write(`${text}\n`);
      printed.set(progress.stage, now);
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

/** How many images have been compared with those that a run was begun with. */
interface ImagesProgress {
  readonly stage: 'images';
  readonly done: number;
  readonly total: number;
}

type Progress = StageProgress | CodesProgress | ClassifierProgress | ImagesProgress;

function lineOf(progress: Progress): string {
  if (progress.stage === 'images') return `reading    ${progress.done}/${progress.total} images`;
  if (progress.stage === 'codes') return `codes      ${progress.done}/${progress.total} images`;
  const { stage, step, steps, loss, samplesPerSecond, secondsLeft } = progress;
  const made = `${stage.padEnd(10)} step ${step}/${steps}  loss ${loss.toFixed(4)}`;
  if (samplesPerSecond === undefined || secondsLeft === undefined) return made;
  const rate = samplesPerSecond.toFixed(samplesPerSecond < 10 ? 1 : 0);
  return `${made}  ${rate} images/s  ${durationText(secondsLeft)} left`;
}
