import { mkdir, open, readdir, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { type FileLock, ioError, type LockOptions, writeFileAtomically } from '@detailflow/checkpoint/node';
import { checkOptions, DetailFlowError } from '@detailflow/core';
import { readSnapshot, type Snapshot, writeSnapshot } from './checkpoint-file';
import { takeRunLock } from './run-lock';

/** A part of a run that has checkpoints and a log of its own. */
export type Stage = 'tokenizer' | 'ar';

const SETTINGS = 'config.json';

/** The folder of a training run: settings, checkpoints, logs and what comes out. One run at a time may have it. */
export class RunFolder {
  readonly path: string;
  readonly #lock: FileLock;

  private constructor(folder: string, lock: FileLock) {
    this.path = folder;
    this.#lock = lock;
  }

  /**
   * Opens a folder for a run, and keeps others out until {@link close}: see {@link FileLock}.
   * @param options.settings kept as config.json; on resume they must be those of the run
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
      await run.#takeSettings(options);
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

  /** A path inside to write to, whose folder is there. @throws DetailFlowError `io` when another run has the folder */
  async place(...parts: string[]): Promise<string> {
    await this.#lock.require();
    const full = path.join(this.path, ...parts);
    await mkdir(path.dirname(full), { recursive: true });
    return full;
  }

  /**
   * Saves a checkpoint and removes all but the last ones. When it cannot be written, the earlier ones stay.
   * @param keep how many stay, >= 1
   */
  async save(stage: Stage, snapshot: Snapshot, keep: number): Promise<void> {
    const name = `step-${String(snapshot.step).padStart(9, '0')}.safetensors`;
    await writeSnapshot(await this.place(stage, 'checkpoints', name), snapshot);
    const names = await this.#checkpoints(stage);
    for (const old of names.slice(0, -keep)) {
      await rm(path.join(this.path, stage, 'checkpoints', old), { force: true });
    }
  }

  /** The last checkpoint of a stage; undefined when there is none. */
  async last(stage: Stage): Promise<Snapshot | undefined> {
    const name = (await this.#checkpoints(stage)).at(-1);
    return name === undefined ? undefined : readSnapshot(path.join(this.path, stage, 'checkpoints', name));
  }

  /**
   * Opens the log of a stage, JSON lines, and drops lines of steps from `step` on: they will be made again.
   * @returns appends a line
   */
  async log(stage: Stage, step: number): Promise<LogWriter> {
    const file = await this.place(stage, 'log.jsonl');
    const kept = (await readLog(file)).filter((line) => (line.step as number) < step);
    const lines = kept.map((line) => `${JSON.stringify(line)}\n`).join('');
    await writeFileAtomically(file, (write) => write(new TextEncoder().encode(lines)));
    const handle = await open(file, 'a');
    return {
      append: async (line) => {
        await this.#lock.require();
        await handle.appendFile(`${JSON.stringify(line)}\n`).catch((cause) => {
          throw ioError('cannot be written', file, cause);
        });
      },
      close: () => handle.close(),
    };
  }

  /** Whether anything in the folder depends on the images: checkpoints or codes. */
  async holdsWork(): Promise<boolean> {
    const codes = await readdir(path.join(this.path, 'codes')).catch(() => []);
    return codes.length > 0 || (await this.#holdsRun());
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

  async close(): Promise<void> {
    await this.#lock.release();
  }

  async #takeSettings({ settings, resume }: { settings: unknown; resume: boolean }): Promise<void> {
    const file = path.join(this.path, SETTINGS);
    const text = `${JSON.stringify(settings, undefined, 2)}\n`;
    const before = await readFile(file, 'utf8').catch(() => undefined);
    const holdsRun = await this.#holdsRun();
    if (holdsRun && !resume) {
      throw new DetailFlowError(
        'io',
        'the folder holds a run; add --resume to go on, or choose another one',
        {
          file: this.path,
        },
      );
    }
    if (holdsRun && before !== undefined && before !== text) {
      throw new DetailFlowError(
        'config',
        `the run was begun with other settings (${firstDifference(before, text)}); resume it with those, or choose another folder`,
        { file },
      );
    }
    await writeFileAtomically(file, (write) => write(new TextEncoder().encode(text)));
  }

  async #holdsRun(): Promise<boolean> {
    const names = await Promise.all((['tokenizer', 'ar'] as const).map((stage) => this.#checkpoints(stage)));
    return names.flat().length > 0;
  }

  /** Names of checkpoints, oldest first. */
  async #checkpoints(stage: Stage): Promise<string[]> {
    const names = await readdir(path.join(this.path, stage, 'checkpoints')).catch(() => []);
    return names.filter((name) => /^step-\d{9,}\.safetensors$/.test(name)).sort();
  }
}

/** A line of a log: the step and its figures. */
export type LogLine = Readonly<Record<string, unknown>>;

export interface LogWriter {
  append(line: LogLine): Promise<void>;
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

function firstDifference(before: string, after: string): string {
  const [a, b] = [before.split('\n'), after.split('\n')];
  const at = b.findIndex((line, i) => line !== a[i]);
  const clean = (line = '') => line.trim().replace(/,$/, '');
  return `${clean(a[at])} became ${clean(b[at])}`;
}
