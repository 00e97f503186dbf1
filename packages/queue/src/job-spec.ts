import { createHash } from 'node:crypto';
import { DetailFlowError, describe } from '@detailflow/core';

/** Anything that JSON can say. */
export type Json =
  | null
  | boolean
  | number
  | string
  | readonly Json[]
  | { readonly [key: string]: Json | undefined };

/** What is to be computed. */
export interface JobSpec {
  /** Which of the worker's tasks computes it. */
  readonly kind: string;
  /**
   * All that results depend on: content of model and data, options, version of the program, the shards. Equal results have equal
   * identities, whatever files are called.
   */
  readonly identity: Json;
  /** Where workers find what they need, unless they are told otherwise. Results do not depend on it. */
  readonly hints: Json;
  /** For people. */
  readonly title: string;
}

/** Bytes of what a job says of itself. */
const MOST_BYTES = 2 ** 24;

/**
 * SHA-256 of kind and identity, 64 hexadecimal digits: the name of a job.
 * @throws DetailFlowError `invalid-argument` for what JSON cannot say, `limit` beyond 16 MiB
 */
export function jobDigest(spec: Pick<JobSpec, 'kind' | 'identity'>): string {
  const { kind, identity } = spec ?? {};
  if (typeof kind !== 'string' || identity === undefined) {
    throw new DetailFlowError('invalid-argument', 'a job must have a kind, which is a text, and an identity');
  }
  return createHash('sha256').update(canonicalJson({ kind, identity })).digest('hex');
}

/**
 * JSON whose keys are in order, so that equal values have equal texts; and different ones have different texts, since what JSON
 * would leave out is refused.
 * @throws DetailFlowError `invalid-argument`, `limit`
 */
export function canonicalJson(value: Json): string {
  let text: string | undefined;
  try {
    text = JSON.stringify(value, function (this: unknown, _, one: unknown) {
      const isLost =
        ['function', 'symbol', 'bigint'].includes(typeof one) || (one === undefined && Array.isArray(this));
      if (isLost || (typeof one === 'number' && !Number.isFinite(one))) throw unsayable(one);
      if (typeof one !== 'object' || one === null || Array.isArray(one)) return one;
      if (!isPlain(one)) throw unsayable(one);
      return Object.fromEntries(Object.entries(one).sort(([a], [b]) => (a < b ? -1 : 1)));
    });
  } catch (cause) {
    if (DetailFlowError.isInstance(cause)) throw cause;
    throw new DetailFlowError('invalid-argument', 'a job must be something that JSON can say', { cause }); // it holds itself
  }
  if (text === undefined) throw unsayable(value);
  if (text.length > MOST_BYTES) {
    throw new DetailFlowError(
      'limit',
      `what the job says of itself has ${text.length} bytes; the limit is ${MOST_BYTES}`,
    );
  }
  return text;
}

const unsayable = (value: unknown) =>
  new DetailFlowError(
    'invalid-argument',
    `a job cannot hold ${describe(value)}; give texts, finite numbers, lists and plain objects`,
  );

/** Neither a Map, whose content JSON leaves out, nor anything else of a class. */
function isPlain(value: object): boolean {
  const kind = Object.getPrototypeOf(value);
  return kind === null || Object.getPrototypeOf(kind) === null;
}

/**
 * Reads a job that lies in the queue, and checks that it is the one of this name.
 * @throws DetailFlowError `format`
 */
export function parseSpec(text: string, digest: string, place: string): JobSpec {
  const fail = (problem: string) =>
    new DetailFlowError('format', `job ${digest.slice(0, 12)} ${problem}; cancel it and begin it again`, {
      file: place,
    });
  if (text.length > 2 * MOST_BYTES) throw fail('is too large');
  let value: JobSpec;
  try {
    value = JSON.parse(text);
  } catch {
    throw fail('is no JSON');
  }
  const { kind, identity, hints, title } = value ?? {};
  if (
    typeof kind !== 'string' ||
    typeof title !== 'string' ||
    identity === undefined ||
    hints === undefined
  ) {
    throw fail('lacks kind, title, identity or hints');
  }
  if (jobDigest({ kind, identity }) !== digest) throw fail('has another content than its name says');
  return { kind, identity, hints, title };
}
