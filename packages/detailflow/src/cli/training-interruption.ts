import type { CodesProgress, SavedCheckpoint, StageProgress } from '@detailflow/train/node';

/** Says what happens when a training run is interrupted: at once, and when it has stopped. */
export class TrainingInterruption {
  readonly #args: readonly string[];
  #stage: (StageProgress | CodesProgress)['stage'] | undefined;
  #saved: SavedCheckpoint | undefined;
  #codes: CodesProgress | undefined;

  /** @param args the command line after `detailflow` */
  constructor(args: readonly string[]) {
    this.#args = args;
  }

  onProgress(progress: StageProgress | CodesProgress): void {
    this.#stage = progress.stage;
    if (progress.stage === 'codes') this.#codes = progress;
  }

  onSaved(saved: SavedCheckpoint): void {
    this.#saved = saved;
  }

  get atOnce(): string {
    const after = this.#stage === undefined || this.#stage === 'codes' ? 'these images' : 'this step';
    return `stopping after ${after} ... (Ctrl-C again ends at once; what is not saved is lost)`;
  }

  /** What is kept, and the command that goes on. */
  afterwards(out: string): string[] {
    const saved = this.#saved;
    const kept = [
      saved && `${saved.stage} at step ${saved.step} of ${saved.steps}`,
      this.#codes && `codes of ${this.#codes.done} of ${this.#codes.total} images`,
    ].filter((one) => one !== undefined);
    const args = this.#args.includes('--resume') ? this.#args : [...this.#args, '--resume'];
    return [
      kept.length > 0 ? `saved in ${out}: ${kept.join(', ')}` : 'nothing was begun, so nothing is saved',
      `go on with: detailflow ${args.map(quoted).join(' ')}`,
    ];
  }
}

/** An argument as a shell takes it. */
function quoted(arg: string): string {
  if (/^[\w@%+=:,./-]+$/.test(arg)) return arg;
  return process.platform === 'win32' ? `"${arg}"` : `'${arg.replaceAll("'", "'\\''")}'`;
}
