import type { TextSizes } from '@detailflow/checkpoint';
import { DetailFlowError, describe, Tensor, type TextCondition } from '@detailflow/core';
import { ApiError, badField } from './api-error';
import { linkSignals } from './linked-signal';
import { Turns } from './turns';

/** Numbers row by row, as a `Tensor` of `@detailflow/core` has them, or one of another library. */
export interface TextArray {
  readonly dims: readonly number[];
  readonly data: ArrayLike<number | bigint | boolean>;
}

/** A prompt as its encoder gives it. */
export interface EncodedText {
  /** [T, F] or [1, T, F], T as many as the encoder likes; padding anywhere. */
  readonly features: TextArray;
  /** [T] or [1, T]: not 0 for the rows that belong to the text; all unless given. */
  readonly mask?: TextArray;
}

/** What a prompt is encoded for. */
export interface EncodeTextOptions {
  /** Rows of a text that the model takes at most. */
  readonly places: number;
  /** Width of its features, F. */
  readonly width: number;
  /** Aborted when the request leaves, its time is up, or the server closes. */
  readonly signal: AbortSignal;
}

/** Makes the features that a model draws for out of a prompt. */
export type EncodeText = (prompt: string, options: EncodeTextOptions) => EncodedText | Promise<EncodedText>;

/** A prompt as the model takes it. */
export interface PromptCondition {
  readonly condition: TextCondition;
  /** Rows that belong to the text. */
  readonly tokens: number;
}

export interface PromptEncoderOptions {
  readonly encodeText: EncodeText;
  readonly sizes: TextSizes;
  /** Texts that are encoded at once. */
  readonly texts: number;
  /** Seconds that one may take. */
  readonly seconds: number;
}

/** Has prompts encoded, so many at once, and believes nothing of what comes back. */
export class PromptEncoder {
  readonly #encodeText: EncodeText;
  readonly #sizes: TextSizes;
  readonly #seconds: number;
  readonly #turns: Turns;

  constructor({ encodeText, sizes, texts, seconds }: PromptEncoderOptions) {
    this.#encodeText = encodeText;
    this.#sizes = sizes;
    this.#seconds = seconds;
    this.#turns = new Turns(texts);
  }

  /**
   * Encodes a prompt when its turn comes. Whoever leaves is not kept waiting, but an encoder that goes on all the same keeps its
   * turn: there are never more of them at work.
   * @throws ApiError 400 for a prompt of too many tokens, 500 when the encoder fails, 503 when it takes too long; the signal's reason
   */
  encode(prompt: string, signal: AbortSignal): Promise<PromptCondition> {
    const { places, width } = this.#sizes;
    const late = () =>
      new ApiError(503, `the prompt was not encoded within ${this.#seconds} s`, {
        code: 'text_encoder_timeout',
        cause: new Error(`encodeText took more than ${this.#seconds} s`),
      });
    return new Promise((resolve, reject) => {
      const work = async () => {
        const link = linkSignals([signal], { seconds: this.#seconds, reason: late });
        const own = link.signal;
        own.addEventListener('abort', () => reject(own.reason), { once: true });
        try {
          resolve(conditionOf(await this.#encodeText(prompt, { places, width, signal: own }), this.#sizes));
        } catch (error) {
          reject(error instanceof ApiError ? error : failed(error));
        } finally {
          link.release();
        }
      };
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
      this.#turns.run(signal, work).catch(reject);
    });
  }
}

/** What is no fault of the request says no more than that it happened. */
const failed = (cause: unknown): ApiError =>
  new ApiError(500, 'the prompt could not be encoded; the log of the server says why', {
    ...{ code: 'text_encoder_failed', cause },
  });

/** @throws ApiError 400 for too many rows, DetailFlowError `shape` for what is no text of the model */
function conditionOf(found: unknown, sizes: TextSizes): PromptCondition {
  const { places, width } = sizes;
  const { features, mask } = (found ?? {}) as { readonly features?: unknown; readonly mask?: unknown };
  const must = `encodeText must give { features: [T, ${width}], mask: [T] }`;
  const wrong = (what: string) => new DetailFlowError('shape', `${must}; ${what}`);
  const rows = arrayOf(features, 2);
  if (!rows) throw wrong(`its features are ${described(features)}`);
  const [count, columns] = rows.dims;
  if (columns !== width) throw wrong(`its features have ${columns} columns`);
  const marks = mask == null ? undefined : arrayOf(mask, 1);
  if (mask != null && marks?.dims[0] !== count)
    throw wrong(`its mask is ${described(mask)} beside ${count} rows`);
  const valid: number[] = [];
  for (let row = 0; row < count; row++) if (!marks || Number(marks.data[row]) !== 0) valid.push(row);
  if (valid.length === 0) throw wrong('no row belongs to the text');
  if (valid.length > places) {
    throw badField(
      'prompt',
      `the prompt has ${valid.length} tokens; this model takes ${places}`,
      'prompt_too_long',
    );
  }
  const data = new Float32Array(valid.length * width);
  for (const [i, row] of valid.entries()) {
    for (let column = 0; column < width; column++)
      data[i * width + column] = Number(rows.data[row * width + column]);
  }
  // One that is not finite would end the pictures that take a step with it.
  if (!data.every(Number.isFinite)) throw wrong('its features hold NaN or infinities');
  const text = { features: new Tensor('float32', data, [valid.length, width]) };
  return { condition: sizes.padded(text), tokens: valid.length };
}

/** An array of so many axes, of which one more before them may be 1; undefined for anything else. */
function arrayOf(value: unknown, axes: number): TextArray | undefined {
  const { dims: given, data } = (value ?? {}) as Partial<TextArray>;
  if (!Array.isArray(given) || typeof data !== 'object' || data === null) return undefined;
  const dims = given.length === axes + 1 && given[0] === 1 ? given.slice(1) : given;
  if (dims.length !== axes || !dims.every((dim) => Number.isSafeInteger(dim) && dim >= 0)) return undefined;
  return data.length === dims.reduce((a, b) => a * b, 1) ? { dims, data } : undefined;
}

const described = (value: unknown): string => {
  const { dims, data } = (value ?? {}) as Partial<TextArray>;
  if (!Array.isArray(dims)) return describe(value);
  return `[${dims.slice(0, 8)}] of ${data?.length ?? 'no'} numbers`;
};
