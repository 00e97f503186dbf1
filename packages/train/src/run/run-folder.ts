import { appendFile, mkdir, open, readdir, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { type FileLock, ioError, type LockOptions, writeFileAtomically } from '@detailflow/checkpoint/node';
import { checkOptions, DetailFlowError } from '@detailflow/core';
import { readSnapshot, type Snapshot, writeSnapshot } from './checkpoint-file';
import { EventFile, scalarsOf } from './event-file';
import { takeRunLock } from './run-lock';
import { forbiddenChange, settingChanges } from './settings-change';

/** A part of a run that has checkpoints and a log of its own. */
export type Stage = 'tokenizer' | 'ar';

const SETTINGS = 'config.json';

/** What TensorBoard looks for. */
const EVENTS = 'events.out.tfevents.0.detailflow';

/** Marks the last line of a stage that ended early, since validations found nothing better. */
export const ENDED = 'endedEarly';

/** Settings that are not written yet. */
interface NewSettings {
  readonly text: string;
  /** A line for changes.jsonl. */
  readonly changes?: object;
}

/** The folder of a training run: settings, checkpoints, logs and what comes out. One run at a time may have it. */
export class RunFolder {
  readonly path: string;
  readonly #lock: FileLock;
  #settings: NewSettings | undefined;

  private constructor(folder: string, lock: FileLock) {
    this.path = folder;
    this.#lock = lock;
  }

  /**
   * Opens a folder for a run, and keeps others out until {@link close}: see {@link FileLock}.
   * @param options.settings for config.json, written by {@link keepSettings}; on resume only harmless ones may have changed
   * @param options.resume go on from the last checkpoints; otherwise the folder must not hold any
   * @throws DetailFlowError `io` when another run has it, or it holds a run and is not to be resumed; `config` when the
   *   settings have changed
   */
  static async open(
    folder: string,
    options: { readonly settings: unknown; readonly resume: boolean; readonly lock?: LockOptions },
  ): Promise<RunFolder> {
    checkOptions('RunFolder.open', options, { settings: true, resume: true, lock: true });
    await mkdir(folder, { recursive: true }).catch((cause) => {
      throw ioError('the folder cannot be made', folder, cause);
    });
    const run = new RunFolder(folder, await takeRunLock(folder, options.lock));
    try {
      run.#settings = await run.#comparedSettings(options);
      return run;
    } catch (error) {
      await run.close();
      throw error;
    }
  }

  /** Aborted when another run has taken the folder: see {@link FileLock.lost}. */
  get lost(): AbortSignal {
    return this.#lock.lost;
  }

  /** Writes the settings that the folder was opened with: they hold from here on, and their changes are noted in changes.jsonl. */
  async keepSettings(): Promise<void> {
    if (!this.#settings) return;
    const { text, changes } = this.#settings;
    this.#settings = undefined;
    if (changes) await appendFile(await this.place('changes.jsonl'), `${JSON.stringify(changes)}\n`);
    await writeFileAtomically(await this.place(SETTINGS), (write) => write(new TextEncoder().encode(text)));
  }

  /** A path inside to write to, whose folder is there. @throws DetailFlowError `io` when another run has the folder */
  async place(...parts: string[]): Promise<string> {
    await this.#lock.require();
    const full = path.join(this.path, ...parts);
    await mkdir(path.dirname(full), { recursive: true });
    return full;
  }

  /**
   * Saves a checkpoint and removes all but the last `keep` (at least 1) and those of multiples of `milestones` steps. When it cannot
   * be written, the earlier ones stay.
   */
  async save(
    stage: Stage,
    snapshot: Snapshot,
    { keep, milestones = 0 }: { readonly keep: number; readonly milestones?: number },
  ): Promise<void> {
    const name = `step-${String(snapshot.step).padStart(9, '0')}.safetensors`;
    await writeSnapshot(await this.place(stage, 'checkpoints', name), snapshot);
    const names = await this.#checkpoints(stage);
    const others = names.filter((one) => !isMultiple(stepOf(one), milestones));
    for (const old of others.slice(0, -keep)) {
      await rm(path.join(this.path, stage, 'checkpoints', old), { force: true });
    }
  }

  /** The last checkpoint of a stage; undefined when there is none. */
  async last(stage: Stage): Promise<Snapshot | undefined> {
    return readCheckpoint(this.path, stage);
  }

  /**
   * Opens the log of a stage, JSON lines, and beside it the same figures as TensorBoard reads them, and drops lines of steps from `step` on: they will be made again.
   * @returns appends a line
   */
  async log(stage: Stage, step: number): Promise<LogWriter> {
    const file = await this.place(stage, 'log.jsonl');
    const kept = (await readLog(file)).filter((line) => (line.step as number) < step);
    const lines = kept.map((line) => `${JSON.stringify(line)}\n`).join('');
    await writeFileAtomically(file, (write) => write(new TextEncoder().encode(lines)));
    const handle = await open(file, 'a');
    const events = await EventFile.open(await this.place(stage, EVENTS), step);
    return {
      append: async (line) => {
        await this.#lock.require();
        await handle.appendFile(`${JSON.stringify(line)}\n`).catch((cause) => {
          throw ioError('cannot be written', file, cause);
        });
        await events.append(line.step as number, scalarsOf(line));
      },
      close: () => handle.close(),
    };
  }

  /** Whether anything in the folder depends on the images: checkpoints or codes. */
  async holdsWork(): Promise<boolean> {
    const codes = await readdir(path.join(this.path, 'codes')).catch(() => []);
    return codes.length > 0 || (await this.holdsRun());
  }

  /**
   * Notes what a stage is trained on, and that it is the same when the stage goes on.
   * @param origin what the stage is trained on, in a few characters
   * @throws DetailFlowError `config` when its checkpoints are of another origin
   */
  async bind(stage: Stage, origin: string): Promise<void> {
    const file = await this.place(stage, 'origin.json');
    const text = `${JSON.stringify({ origin })}\n`;
    if ((await this.#checkpoints(stage)).length === 0) {
      await writeFileAtomically(file, (write) => write(new TextEncoder().encode(text)));
      return;
    }
    if ((await readFile(file, 'utf8').catch(() => undefined)) === text) return;
    throw new DetailFlowError(
      'config',
      `the checkpoints were trained on other codes; remove the folder ${stage}/ to train it anew, or choose another folder for the run`,
      { file },
    );
  }

  /** All lines of a log. */
  readLog(stage: Stage): Promise<LogLine[]> {
    return readLog(path.join(this.path, stage, 'log.jsonl'));
  }

  /** Whether a stage ended early with the step before `step`. */
  async endedEarly(stage: Stage, step: number): Promise<boolean> {
    const last = (await this.readLog(stage)).findLast((line) => (line.step as number) < step);
    return last?.step === step - 1 && last[ENDED] === true;
  }

  /** Frees what it holds, files included. */
  async close(): Promise<void> {
    await this.#lock.release();
  }

  async #comparedSettings({
    settings,
    resume,
  }: {
    settings: unknown;
    resume: boolean;
  }): Promise<NewSettings> {
    const file = path.join(this.path, SETTINGS);
    const text = `${JSON.stringify(settings, undefined, 2)}\n`;
    const before = await readFile(file, 'utf8').catch(() => undefined);
    const holdsRun = await this.holdsRun();
    if (holdsRun && !resume) {
      throw new DetailFlowError(
        'io',
        'the folder holds a run; add --resume to go on, or choose another one',
        {
          file: this.path,
        },
      );
    }
    const isChanged = holdsRun && before !== undefined && before !== text;
    return { text, ...(isChanged && { changes: await this.#harmlessChanges(file, before, text) }) };
  }

  /** Harmless changes, and where they come in; others are refused. */
  async #harmlessChanges(file: string, before: string, after: string): Promise<object> {
    const changes = settingChanges(parsed(before, file), JSON.parse(after));
    const [tokenizer, ar] = [await this.#checkpoints('tokenizer'), await this.#checkpoints('ar')];
    const begun = { tokenizer: tokenizer.length > 0, ar: ar.length > 0 };
    const forbidden = forbiddenChange(changes, begun);
    if (forbidden) {
      const name = JSON.stringify(forbidden.setting.slice(forbidden.setting.lastIndexOf('.') + 1));
      const [from, to] = [forbidden.from, forbidden.to].map((value) => `${name}: ${JSON.stringify(value)}`);
      throw new DetailFlowError(
        'config',
        `the run was begun with other settings (${from} became ${to}); resume it with those, choose another folder, or begin a new run from this one (--init)`,
        { file, entry: forbidden.setting },
      );
    }
    return { at: { tokenizer: tokenizer.at(-1), ar: ar.at(-1) }, changes };
  }

  /** Whether there are checkpoints. */
  async holdsRun(): Promise<boolean> {
    const names = await Promise.all((['tokenizer', 'ar'] as const).map((stage) => this.#checkpoints(stage)));
    return names.flat().length > 0;
  }

  #checkpoints(stage: Stage): Promise<string[]> {
    return checkpointNames(this.path, stage);
  }
}

/** Whether a step is one of every so many; none is where that is 0. */
export const isMultiple = (step: number, every: number): boolean => every > 0 && step % every === 0;

const stepOf = (name: string): number => Number(/\d+/.exec(name)?.[0]);

/** Names of checkpoints, oldest first. */
async function checkpointNames(run: string, stage: Stage): Promise<string[]> {
  const names = await readdir(path.join(run, stage, 'checkpoints')).catch(() => []);
  return names.filter((name) => /^step-\d{9,}\.safetensors$/.test(name)).sort();
}

/**
 * A checkpoint of a run that need not be opened.
 * @param step which one; default: the last
 * @returns undefined when there is none at all
 * @throws DetailFlowError `io` when there is none of that step
 */
export async function readCheckpoint(
  run: string,
  stage: Stage,
  step?: number,
): Promise<Snapshot | undefined> {
  const names = await checkpointNames(run, stage);
  const steps = names.map((name) => Number(/\d+/.exec(name)?.[0]));
  const at = step === undefined ? names.length - 1 : steps.indexOf(step);
  if (at < 0 && step !== undefined) {
    const there = steps.length > 0 ? `there are ${steps.join(', ')}` : 'there are none';
    throw new DetailFlowError('io', `there is no ${stage} checkpoint of step ${step}; ${there}`, {
      file: run,
    });
  }
  return at < 0 ? undefined : readSnapshot(path.join(run, stage, 'checkpoints', names[at]));
}

/** A line of a log: the step and its figures. */
export type LogLine = Readonly<Record<string, unknown>>;

/** Writes a log, one JSON object a line. */
export interface LogWriter {
  /** Adds a line. */
  append(line: LogLine): Promise<void>;
  /** Frees what it holds, files included. */
  close(): Promise<void>;
}

/** Lines that a killed process left unfinished do not count. */
async function readLog(file: string): Promise<LogLine[]> {
  const text = await readFile(file, 'utf8').catch(() => '');
  return text.split('\n').flatMap((line) => {
    try {
      const value: unknown = JSON.parse(line);
      return typeof value === 'object' && value !== null ? [value as LogLine] : [];
    } catch {
      return [];
    }
  });
}

function parsed(text: string, file: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new DetailFlowError('format', 'is no JSON', { file, cause });
  }
}
