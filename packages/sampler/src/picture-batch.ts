import {
  type Condition,
  checkOptions,
  DetailFlowError,
  describe,
  type TokenModel,
  type TokenPool,
} from '@detailflow/core';
import { Drawing } from './drawing';
import type { SampleOptions } from './generate';
import { givenTokens } from './given-tokens';
import { lastPosition, plannedSteps } from './plan-steps';
import { requireModels } from './require-models';
import type { SampleStep } from './sample-plan';
import { SessionPool } from './session-pool';

/** Which model draws, and how many pictures at once. */
export interface PictureBatchOptions {
  readonly model: TokenModel;
  /** Pictures that are drawn at once; others wait in their order. Default 8. */
  readonly pictures?: number;
  /** Told of every run of the model. */
  readonly onRun?: (run: BatchRun) => void;
}

/** A run of the model on behalf of several pictures. */
export interface BatchRun {
  readonly pictures: number;
  /** Tokens predicted for each of them. */
  readonly count: number;
}

/** Of one picture; see {@link SampleOptions}. */
export interface BatchPictureOptions
  extends Omit<SampleOptions, 'model' | 'labels' | 'seed' | 'noise' | 'onDevice'> {
  readonly label: Condition;
  /** Default 0. */
  readonly seed?: number;
}

const MOST_PICTURES = 256;

/** Opens a running batch, which pictures join and leave between steps. Memory is taken with the first picture. */
export function createPictureBatch(options: PictureBatchOptions): PictureBatch {
  checkOptions('createPictureBatch', options, { model: true, pictures: true, onRun: true });
  const { model, pictures = 8 } = options;
  requireModels({ model });
  if (!Number.isInteger(pictures) || pictures < 1 || pictures > MOST_PICTURES) {
    throw new DetailFlowError(
      'invalid-argument',
      `pictures is ${describe(pictures)}; give 1 to ${MOST_PICTURES}`,
    );
  }
  return new PictureBatch({ ...options, pictures });
}

/**
 * Draws pictures of one model together. In every round each picture that is being drawn takes one step; those whose steps
 * have the same number of tokens take it in one run. Between rounds finished and abandoned pictures leave, and waiting ones
 * join in the order in which they came. A picture depends on its own options alone, never on its company.
 */
export class PictureBatch {
  readonly pictures: number;
  readonly #model: TokenModel;
  readonly #onRun: (run: BatchRun) => void;
  readonly #waiting = new Set<Drawing>();
  readonly #running = new Set<Drawing>();
  #pool: Promise<TokenPool> | undefined;
  #driver: Promise<void> | undefined;
  #isClosed = false;

  /** @internal Use {@link createPictureBatch}. */
  constructor({ model, pictures, onRun = () => {} }: PictureBatchOptions & { readonly pictures: number }) {
    this.#model = model;
    this.pictures = pictures;
    this.#onRun = onRun;
  }

  /** Pictures that are being drawn. */
  get running(): number {
    return this.#running.size;
  }

  /** Pictures that wait for a place. */
  get waiting(): number {
    return this.#waiting.size;
  }

  /**
   * Draws one picture; its place in the queue is taken with the first step asked for, and given back when the loop is left or
   * `signal` aborted. What is drawn does not wait for whoever reads.
   * @throws DetailFlowError `invalid-argument`, `closed`; `runtime` when the model fails; the signal's reason when aborted
   */
  async *sample(options: BatchPictureOptions): AsyncGenerator<SampleStep, void, void> {
    const drawing = this.#plan(options);
    const { signal } = options;
    signal?.throwIfAborted();
    if (this.#isClosed) throw closed();
    const abort = () => this.#end(drawing, signal?.reason);
    signal?.addEventListener('abort', abort, { once: true });
    this.#waiting.add(drawing);
    this.#driver ??= this.#drive();
    try {
      for (let step = await drawing.take(); step; step = await drawing.take()) yield step;
    } finally {
      signal?.removeEventListener('abort', abort);
      this.#end(drawing, closed());
    }
  }

  /** Ends what is being drawn and what waits with `closed`, and frees the batch. The model stays. */
  async close(): Promise<void> {
    this.#isClosed = true;
    for (const drawing of [...this.#waiting, ...this.#running]) this.#end(drawing, closed());
    await this.#driver;
    await this.#pool?.then((pool) => pool.dispose()).catch(() => {}); // a failure was reported to the pictures
    this.#pool = undefined;
  }

  #plan(options: BatchPictureOptions): Drawing {
    checkOptions('sample', options, {
      ...{ label: true, seed: true, greedy: true, tokens: true, prefix: true, keep: true, signal: true },
      ...{ temperature: true, topK: true, topP: true, cfg: true, guidance: true },
    });
    const { label, seed = 0, tokens, greedy = false } = options;
    const model = this.#model;
    if (!Number.isSafeInteger(seed) || seed < 0) {
      throw new DetailFlowError('invalid-argument', `seed is ${describe(seed)}; give a whole number from 0`);
    }
    const total = lastPosition(tokens ?? model.tokens, model);
    const given = givenTokens(options, model, 1, total);
    const steps = plannedSteps({ ...options, model }, total, (place) => given.has(place));
    return new Drawing({ model, label, steps, total, given, seed, greedy });
  }

  /** Nobody wants the drawing any more: one that waits goes at once, one that runs after the step under way. */
  #end(drawing: Drawing, error: unknown): void {
    this.#waiting.delete(drawing);
    if (!drawing.isOver) drawing.finish({ error });
  }

  async #drive(): Promise<void> {
    try {
      for (;;) {
        this.#dismiss();
        if (this.#waiting.size > 0) await this.#admit();
        if (this.#running.size === 0 && this.#waiting.size === 0) return;
        const kinds = new Map<number, Drawing[]>();
        for (const drawing of this.#running) {
          kinds.set(drawing.nextCount, [...(kinds.get(drawing.nextCount) ?? []), drawing]);
        }
        // The tokens of one kind are chosen here while the model runs for the next one.
        await Promise.all([...kinds].map(([count, drawings]) => this.#step(count, drawings)));
      }
    } finally {
      this.#driver = undefined;
    }
  }

  #dismiss(): void {
    for (const drawing of this.#running) {
      if (!drawing.isOver) continue;
      drawing.member?.release();
      this.#running.delete(drawing);
    }
  }

  async #admit(): Promise<void> {
    let pool: TokenPool;
    try {
      this.#pool ??= this.#open();
      pool = await this.#pool;
    } catch (error) {
      this.#pool = undefined; // the next picture tries again
      for (const drawing of [...this.#waiting]) this.#end(drawing, error);
      return;
    }
    for (const drawing of this.#waiting) {
      if (this.#running.size >= this.pictures) return;
      this.#waiting.delete(drawing);
      try {
        drawing.member = pool.begin(drawing.conditions);
        this.#running.add(drawing);
      } catch (error) {
        drawing.finish({ error });
      }
    }
  }

  /** Two rows a picture: with and without condition. */
  #open(): Promise<TokenPool> {
    const rows = 2 * this.pictures;
    return this.#model.openPool?.({ rows }) ?? Promise.resolve(new SessionPool(this.#model, rows));
  }

  async #step(count: number, drawings: readonly Drawing[]): Promise<void> {
    const pool = await (this.#pool as Promise<TokenPool>);
    try {
      this.#onRun({ pictures: drawings.length, count });
    } catch (error) {
      for (const drawing of drawings) this.#end(drawing, error);
      return;
    }
    // Where nothing is computed together, what one picture cannot be drawn by is no fault of the others.
    const runs = pool instanceof SessionPool ? drawings.map((drawing) => [drawing]) : [drawings];
    for (const run of runs) await this.#predict(pool, run);
  }

  async #predict(pool: TokenPool, drawings: readonly Drawing[]): Promise<void> {
    if (drawings.every(({ isOver }) => isOver)) return;
    try {
      const logits = await pool.predict(
        drawings.map(({ member, chosen }) => ({ member: member as NonNullable<typeof member>, chosen })),
      );
      for (const [i, drawing] of drawings.entries()) {
        if (!drawing.isOver) choose(drawing, logits[i]);
      }
    } catch (error) {
      for (const drawing of drawings) this.#end(drawing, error);
    }
  }
}

/** Logits that cannot be drawn from are the fault of one picture, such as its scale, and end that one alone. */
function choose(drawing: Drawing, logits: readonly Float32Array[]): void {
  try {
    drawing.choose(logits);
  } catch (error) {
    drawing.finish({ error });
  }
}

const closed = () => new DetailFlowError('closed', 'the batch is closed');
