import { checkOptions, DetailFlowError } from '@detailflow/core';
import type { Snapshot } from './checkpoint-file';
import { Pace } from './pace';
import { ENDED, isMultiple, type LogLine, type RunFolder, type Stage } from './run-folder';

/** What trains step by step and can be saved. */
export interface Trainable<Batch> {
  readonly step: number;
  /** Graphs compiled so far: a step that compiles says nothing of the pace. */
  readonly graphs: number;
  /** Makes a step. */
  train(batch: Batch): Promise<LogLine>;
  /** All that a step depends on. */
  snapshot(): Promise<Snapshot>;
  /** Goes on from a snapshot. */
  restore(snapshot: Snapshot): Promise<void>;
}

/** One stage of a run: its trainer, its batches, its folder. */
export interface StageOptions<Batch> {
  readonly folder: RunFolder;
  readonly stage: Stage;
  readonly trainer: Trainable<Batch>;
  readonly steps: number;
  /** Samples of a step, for the rate. */
  readonly batchSize: number;
  readonly checkpoints: { readonly every: number; readonly keep: number; readonly milestones?: number };
  /** The batch of a step; the next one is fetched while a step computes. */
  readonly batch: (step: number) => Promise<Batch>;
  /** Looks at the model every so many steps, and at the end; what it returns goes into the log. Ends early by the signal. */
  readonly validation: {
    readonly every: number;
    /** Measures after a step; what it returns goes into the log. */
    readonly run: (step: number, signal?: AbortSignal) => Promise<LogLine>;
  };
  /** How good a line of the log says that the model is, higher for better; undefined where it says nothing. */
  readonly score?: (line: LogLine) => number | undefined;
  /** Ends the stage when so many validations in a row found nothing better; 0 (default) for never. */
  readonly patience?: number;
  /** Ends the stage after the step under way, or in the middle of a validation, which is made up for on resuming. */
  readonly signal?: AbortSignal;
  /** Whether to save and stop before the next step. */
  readonly isTimeUp?: () => boolean;
  /** Told of every checkpoint that is saved, and of the one that the stage began with. */
  readonly onSaved?: (saved: SavedCheckpoint) => void;
  /** Told after every step. */
  readonly onStep?: (progress: StageProgress) => void;
}

/** The last checkpoint of a stage. */
export interface SavedCheckpoint {
  readonly stage: Stage;
  readonly step: number;
  readonly steps: number;
}

/** How far a stage has come. */
export interface StageProgress {
  readonly stage: Stage;
  /** Steps made. */
  readonly step: number;
  readonly steps: number;
  readonly loss: number;
  /** Unknown before the first step that compiled nothing. */
  readonly samplesPerSecond?: number;
  readonly secondsLeft?: number;
}

/**
 * Trains to the last step, from the last checkpoint if there is one, or until validations find nothing better. A checkpoint is saved every so many steps, at the
 * end, and when the run is stopped or its time is up.
 * @returns whether the last step was made
 * @throws DetailFlowError `diverged` when a loss is no number: the last checkpoint is from before; `io` when a
 *   checkpoint cannot be saved: the earlier ones stay; the reason of the signal, after saving
 */
export async function runStage<Batch>(options: StageOptions<Batch>): Promise<boolean> {
  checkOptions('runStage', options, {
    folder: true,
    stage: true,
    trainer: true,
    steps: true,
    batchSize: true,
    checkpoints: true,
    batch: true,
    ...{ score: true, patience: true },
    validation: true,
    signal: true,
    isTimeUp: true,
    onStep: true,
    onSaved: true,
  });
  const { folder, stage, trainer, steps, checkpoints, validation, signal, isTimeUp = () => false } = options;
  const last = await folder.last(stage);
  if (last) await trainer.restore(last);
  let saved = last?.step ?? -1;
  const save = async () => {
    if (trainer.step !== saved) await folder.save(stage, await trainer.snapshot(), checkpoints);
    saved = trainer.step;
    options.onSaved?.({ stage, step: saved, steps });
  };
  if (last) options.onSaved?.({ stage, step: saved, steps });
  /** What a validation finds; a mark where it was stopped. */
  const validate = (): Promise<LogLine> =>
    validation.run(trainer.step, signal).catch((error) => {
      if (!signal?.aborted) throw error;
      return { [PENDING]: true };
    });
  const pending = (await folder.readLog(stage)).find(
    (line) => line.step === trainer.step - 1 && line[PENDING],
  );
  const log = await folder.log(stage, trainer.step - (pending ? 1 : 0));
  const pace = new Pace(options.batchSize);
  const scores = (await folder.readLog(stage)).flatMap((line) => options.score?.(line) ?? []);
  /** Takes a validation in. @returns whether it ends the stage */
  const isEnough = (line: LogLine): boolean => {
    const score = options.score?.(line);
    if (score !== undefined) scores.push(score);
    return trainer.step < steps && isStale(scores, options.patience ?? 0);
  };
  const append = (line: LogLine) => log.append(ended ? { ...line, [ENDED]: true } : line);
  // With more patience than it ended by, a stage goes on.
  let ended = (await folder.endedEarly(stage, trainer.step)) && isStale(scores, options.patience ?? 0);
  try {
    if (pending) {
      const { [PENDING]: _, ...before } = pending;
      const line = { ...before, ...(await validate()) };
      ended = !line[PENDING] && isEnough(line);
      await append(line);
    }
    let next: Promise<Batch> | undefined;
    while (trainer.step < steps && !ended && !signal?.aborted && !isTimeUp()) {
      const { step } = trainer;
      const batch = await (next ?? options.batch(step));
      if (signal?.aborted) break;
      pace.begin(trainer.graphs);
      next = step + 1 < steps ? options.batch(step + 1) : undefined;
      next?.catch(() => {}); // thrown when it is awaited
      const report = await trainer.train(batch);
      pace.end(trainer.graphs);
      const isLast = trainer.step === steps;
      const isDue = isLast || trainer.step % validation.every === 0;
      const line: LogLine = { ...report, ...(isDue ? await validate() : {}) };
      ended = isDue && !line[PENDING] && isEnough(line);
      await append(line);
      const isDueToSave = [checkpoints.every, checkpoints.milestones ?? 0].some((every) =>
        isMultiple(trainer.step, every),
      );
      if (ended || isLast || isDueToSave) await save();
      options.onStep?.({
        stage,
        step: trainer.step,
        steps,
        loss: report.loss as number,
        ...pace.left(steps - trainer.step),
      });
    }
    if (trainer.step < steps && !ended) await save();
  } catch (error) {
    if (!DetailFlowError.isInstance(error) || error.code !== 'diverged') throw error;
    const kept = saved < 0 ? 'no checkpoint had been saved' : `the checkpoint of step ${saved} is kept`;
    throw new DetailFlowError('diverged', `${error.message}; ${kept}. Try a smaller learning rate`, {
      cause: error,
    });
  } finally {
    await log.close();
  }
  signal?.throwIfAborted();
  return ended || trainer.step >= steps;
}

/** Whether the last so many scores are none of them better than the best before. */
function isStale(scores: readonly number[], patience: number): boolean {
  if (patience === 0 || scores.length <= patience) return false;
  const best = Math.max(...scores.slice(0, -patience));
  return scores.slice(-patience).every((score) => score <= best);
}

/** Marks the line of a step whose validation was stopped. */
const PENDING = 'validationPending';
