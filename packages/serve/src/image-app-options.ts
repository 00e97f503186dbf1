import { DetailFlowError, describe, type OptionNames } from '@detailflow/core';
import type { EncodeText } from './prompt-encoder';
import type { LogEntry } from './request-log';
import type { ServedModel } from './served-model';

/** What is served, to whom, and the limits. */
export interface ImageAppOptions {
  readonly model: ServedModel;
  /** Name that the model is served by; default: that of its card, or of its family. */
  readonly name?: string;
  /** Pictures that are drawn at once, 1 to 256; default 8. */
  readonly pictures?: number;
  /** Pictures that may wait beside them; default 64. */
  readonly queue?: number;
  /** Most pictures of one request, 1 to 10; default 10. */
  readonly most?: number;
  /** Seconds that a request may take, waiting included; default 300. */
  readonly timeout?: number;
  /** Bytes of an uploaded form; default 16 MiB. JSON may have 256 KiB. */
  readonly bodyLimit?: number;
  /**
   * For a model of texts: makes features out of the prompt of a request, which has its places in the queue already. What is kept of
   * earlier prompts is its own affair. Without it such a model refuses prompts.
   */
  readonly encodeText?: EncodeText;
  /** Texts that are encoded at once, 1 to 256; default 1. An encoder that does not heed its signal keeps its turn until it ends. */
  readonly texts?: number;
  /** Seconds that a text may take once its turn has come, 1 to 86400; default 60. The request is told 503 then. */
  readonly textTimeout?: number;
  /** Characters of a prompt for a model of texts, 1 to 32000; default 4000. */
  readonly promptLimit?: number;
  /** Keys of which one must be sent as bearer token; default: none is asked for. */
  readonly keys?: readonly string[];
  /**
   * Origins of other sites whose pages may ask, such as `https://example.org`: they are let through, and may read the answers.
   * Default: none, so that no page but the server's own can have pictures drawn here.
   */
  readonly origins?: readonly string[];
  /** Takes the lines of the log; default: none. */
  readonly log?: (entry: LogEntry) => void;
}

export const imageAppOptionNames: OptionNames<ImageAppOptions> = {
  ...{ model: true, name: true, pictures: true, queue: true, most: true, timeout: true },
  ...{ encodeText: true, texts: true, textTimeout: true, promptLimit: true },
  ...{ bodyLimit: true, keys: true, origins: true, log: true },
};

/** @throws DetailFlowError `invalid-argument` for options that are not of their kind; a number has its range looked at besides */
export function requireKinds({ model, name, log }: ImageAppOptions): void {
  const wrong = (what: string, value: unknown, wanted: string) =>
    new DetailFlowError('invalid-argument', `${what} is ${describe(value)}; give ${wanted}`);
  if (typeof model !== 'object' || model === null) throw wrong('model', model, 'a model, as load() gives it');
  if (name !== undefined && typeof name !== 'string') throw wrong('name', name, '1 to 256 characters');
  if (log !== undefined && typeof log !== 'function') throw wrong('log', log, 'a function');
}

const LONGEST_DRAIN = 86_400;

/** @throws DetailFlowError `invalid-argument`: a timer takes what is no number, and what is too large, for nothing */
export function requireSeconds(seconds: number): void {
  if (typeof seconds === 'number' && seconds >= 0 && seconds <= LONGEST_DRAIN) return;
  throw new DetailFlowError(
    'invalid-argument',
    `the seconds of drain are ${describe(seconds)}; give 0 to ${LONGEST_DRAIN}`,
  );
}
