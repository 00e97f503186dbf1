import { createHash, timingSafeEqual } from 'node:crypto';
import { DetailFlowError, describe } from '@detailflow/core';

const SHORTEST_KEY = 8;
const LONGEST_KEY = 512;
const MOST_KEYS = 10_000;

/**
 * Keys of a file: one a line; empty lines and those that begin with # are left out.
 * @throws DetailFlowError `format` when there are none, or one is no key; keys are never part of the message;
 *   `invalid-argument` for what is no text
 */
export function parseKeys(text: string, file: string): string[] {
  if (typeof text !== 'string') {
    throw new DetailFlowError(
      'invalid-argument',
      `the text of parseKeys is ${describe(text)}; give that of a file`,
    );
  }
  const lines = text.split(/\r?\n/).map((line) => line.trim());
  const keys = lines.filter((line) => line !== '' && !line.startsWith('#'));
  const fail = (reason: string) => new DetailFlowError('format', reason, { file });
  if (keys.length === 0) throw fail('there is no key in it; write one a line');
  if (keys.length > MOST_KEYS) throw fail(`${keys.length} keys; ${MOST_KEYS} are the most`);
  const wrong = lines.findIndex((line) => keys.includes(line) && !isKey(line));
  if (wrong >= 0) {
    throw fail(
      `line ${wrong + 1} is no key: give ${SHORTEST_KEY} to ${LONGEST_KEY} visible characters of ASCII, without spaces`,
    );
  }
  return keys;
}

/** Whether a text can be sent as a bearer token. */
export const isKey = (text: unknown): boolean =>
  typeof text === 'string' &&
  text.length >= SHORTEST_KEY &&
  text.length <= LONGEST_KEY &&
  /^[\x21-\x7e]+$/.test(text);

/** Says whether an `Authorization` header carries one of the keys, in a time that does not depend on how much of it is right. */
export class KeyCheck {
  readonly #digests: readonly Buffer[];

  constructor(keys: readonly string[]) {
    this.#digests = keys.map(digest);
  }

  allows(header: string | undefined): boolean {
    const given = digest(/^Bearer +(\S+) *$/i.exec(header ?? '')?.[1] ?? '');
    let found = false;
    for (const known of this.#digests) found = timingSafeEqual(known, given) || found; // all of them, always
    return found;
  }
}

const digest = (key: string): Buffer => createHash('sha256').update(key).digest();
