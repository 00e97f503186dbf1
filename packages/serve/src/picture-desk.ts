import { Tensor } from '@detailflow/core';
import type { SampleStep } from '@detailflow/sampler';
import { createPictureBatch, type PictureBatch } from '@detailflow/sampler/batch';
import { ApiError } from './api-error';
import { encodePicture } from './encode-picture';
import { linkSignals } from './linked-signal';
import { Metrics, type Outcome } from './metrics';
import type { PictureRequest, Serving } from './picture-request';
import type { PictureSize } from './picture-size';

/** A preview or a finished picture of a request. */
export interface DrawnPicture {
  /** Which of the request's pictures, from 0. */
  readonly index: number;
  /** Which of its previews, from 0; none for the finished picture. */
  readonly preview?: number;
  readonly size: PictureSize;
  readonly bytes: Uint8Array;
}

export interface DeskOptions {
  readonly serving: Serving;
  /** Pictures that are drawn at once. */
  readonly pictures: number;
  /** Pictures that may wait. */
  readonly queue: number;
}

/** Seconds that a picture is assumed to take before one was drawn. */
const FIRST_GUESS = 2;
const LONGEST_WAIT = 120;

/** Takes on pictures, up to a limit, draws them in one running batch, and knows how each of them ended. */
export class PictureDesk {
  readonly metrics: Metrics;
  readonly #serving: Serving;
  readonly #batch: PictureBatch;
  readonly #capacity: number;
  /** Pictures taken on and not ended yet. */
  #taken = 0;
  /** Forms that are being read: each will ask for a picture at least. */
  #forms = 0;
  #isReady = false;
  /** Of a picture, a running mean. */
  #seconds = FIRST_GUESS;
  readonly #idle = new Set<() => void>();

  constructor({ serving, pictures, queue }: DeskOptions) {
    this.#serving = serving;
    this.#capacity = pictures + queue;
    this.metrics = new Metrics(() => ({
      ...{ running: this.#batch.running, isReady: this.#isReady },
      waiting: this.#batch.waiting,
    }));
    this.#batch = createPictureBatch({
      ...{ model: serving.tokenModel, pictures },
      onRun: (run) => this.metrics.ran(run.pictures),
    });
  }

  get taken(): number {
    return this.#taken;
  }

  get isReady(): boolean {
    return this.#isReady;
  }

  set isReady(isReady: boolean) {
    this.#isReady = isReady;
  }

  /** Loads the model onto its device: draws the first tokens of a picture and shows them. */
  async warm(signal: AbortSignal): Promise<void> {
    const { tokenModel, model } = this.#serving;
    for await (const step of this.#batch.sample({ label: tokenModel.unconditional(), tokens: 1, signal })) {
      await model.tokenizer.decode(await step.tokens(), { signal });
    }
  }

  /** Waits until every picture that was taken on has ended. */
  async idle(): Promise<void> {
    while (this.#taken > 0) await new Promise<void>((resolve) => this.#idle.add(resolve));
  }

  /** Ends what is still being drawn, and frees the batch. */
  async close(): Promise<void> {
    this.#isReady = false;
    await this.#batch.close();
  }

  /**
   * Lets a form be read for which there may be room: so many forms lie in memory at most as pictures are taken on. They hold up
   * other forms alone, since whoever sends one slowly must not keep others from drawing.
   * @returns what says that the form has been read, or given up
   * @throws ApiError 429 when there is no room
   */
  admitForm(): () => void {
    if (this.#taken + this.#forms >= this.#capacity) throw this.#full(1);
    this.#forms++;
    let isOpen = true;
    return () => {
      if (isOpen) this.#forms--;
      isOpen = false;
    };
  }

  /**
   * Takes on the pictures of a request, which are then owed: the drawing must be started or given up.
   * @throws ApiError 429 when there is no room, 400 when there never will be
   */
  take(n: number): Promised {
    if (n > this.#capacity) {
      this.metrics.ended('refused', n);
      throw new ApiError(400, `n is ${n}; this server takes ${this.#capacity} pictures at once`, {
        ...{ param: 'n', code: 'invalid_value' },
      });
    }
    if (this.#taken + n > this.#capacity) throw this.#full(n);
    this.#taken += n;
    return new Promised(n, performance.now(), (outcome) => {
      this.metrics.ended(outcome);
      this.#taken--;
      if (this.#taken > 0) return;
      for (const resolve of this.#idle) resolve();
      this.#idle.clear();
    });
  }

  #full(n: number): ApiError {
    this.metrics.ended('refused', n);
    const seconds = (this.#seconds * this.#taken) / this.#batch.pictures;
    return new ApiError(429, 'the queue is full; come again later', {
      ...{ type: 'rate_limit_error', code: 'queue_full' },
      retryAfter: Math.min(LONGEST_WAIT, Math.max(1, Math.ceil(seconds))),
    });
  }

  /**
   * Draws what was taken on; previews and pictures as they come. Leaving the loop or aborting gives the places back.
   * @throws ApiError, or the signal's reason
   */
  async *draw(
    request: PictureRequest,
    promised: Promised,
    signal: AbortSignal,
  ): AsyncGenerator<DrawnPicture, void, void> {
    const own = linkSignals([signal]);
    const ready: DrawnPicture[] = [];
    let failure: { readonly error: unknown } | undefined;
    let open = request.n;
    let wake = () => {};
    const onPicture = (picture: DrawnPicture) => {
      ready.push(picture);
      wake();
    };
    const drawings = Array.from({ length: request.n }, async (_, index) => {
      try {
        await this.#drawOne(request, { index, promised, signal: own.signal, onPicture });
        promised.end('drawn');
      } catch (error) {
        const isCancelled = own.signal.aborted && !(own.signal.reason instanceof ApiError);
        promised.end(isCancelled ? 'cancelled' : 'failed');
        failure ??= { error };
        own.abort(error); // an answer holds all pictures or none
      } finally {
        open--;
        wake();
      }
    });
    try {
      while (open > 0 || ready.length > 0 || failure) {
        if (failure) throw failure.error;
        const next = ready.shift();
        if (next) yield next;
        else {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
      }
    } finally {
      own.abort(new DOMException('nobody waits for the pictures any more', 'AbortError'));
      own.release();
      await Promise.all(drawings);
    }
  }

  async #drawOne(
    request: PictureRequest,
    job: {
      readonly index: number;
      readonly promised: Promised;
      readonly signal: AbortSignal;
      readonly onPicture: (picture: DrawnPicture) => void;
    },
  ): Promise<void> {
    const { index, promised, signal, onPicture } = job;
    const { options, seed, previews } = request;
    const { metrics } = this;
    let isFirst = true;
    let shown = 0;
    for await (const step of this.#batch.sample({ ...options, seed: seed + index, signal })) {
      if (isFirst) metrics.took('wait', promised.seconds);
      isFirst = false;
      const isLast = step.count === step.total;
      if (!isLast && !previews.includes(step.count)) continue;
      const picture = await this.#show(request, step, signal);
      if (isLast) {
        metrics.took('picture', promised.seconds);
        this.#seconds += (promised.seconds - this.#seconds) / 8;
        onPicture({ index, ...picture });
      } else {
        if (shown === 0) metrics.took('partial', promised.seconds);
        onPicture({ index, preview: shown++, ...picture });
      }
    }
  }

  async #show(
    { format, quality, size }: PictureRequest,
    step: SampleStep,
    signal: AbortSignal,
  ): Promise<{ size: PictureSize; bytes: Uint8Array }> {
    const { tokenizer } = this.#serving.model;
    const side = Math.min(size.height, tokenizer.resolution(step.count));
    const { data, dims } = await step.tokens();
    const pixels = await tokenizer.decode(new Tensor('int32', data, dims), { size: side, signal });
    const [height, width] = pixels.dims.slice(2);
    return { size: { width, height }, bytes: await encodePicture(pixels, { format, quality }) };
  }
}

/** Pictures that a request was promised; each of them ends once. */
export class Promised {
  readonly #since: number;
  readonly #onEnd: (outcome: Outcome) => void;
  #open: number;

  constructor(count: number, since: number, onEnd: (outcome: Outcome) => void) {
    this.#open = count;
    this.#since = since;
    this.#onEnd = onEnd;
  }

  /** Since the request was accepted. */
  get seconds(): number {
    return (performance.now() - this.#since) / 1000;
  }

  /** One of them has ended. */
  end(outcome: Outcome): void {
    if (this.#open === 0) return;
    this.#open--;
    this.#onEnd(outcome);
  }

  /** What was never started is not drawn. */
  giveUp(outcome: Exclude<Outcome, 'drawn'>): void {
    while (this.#open > 0) this.end(outcome);
  }
}
