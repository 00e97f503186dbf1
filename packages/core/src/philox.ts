import { checkOptions } from './check-options';
import { describe } from './describe';
import { DetailFlowError } from './errors';

/** Four unsigned 32-bit words. */
export type PhiloxBlock = readonly [number, number, number, number];

/**
 * One block of the counter-based generator Philox4x32-10: the same counter and key always give the same four
 * words, so any draw can be made alone, in any order, on any device. Words are integers in 0 .. 2^32 - 1
 * (larger or negative ones are taken modulo 2^32).
 * Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011 (Random123).
 */
export function philox4x32(counter: PhiloxBlock, key: readonly [number, number]): PhiloxBlock {
  const out = new Uint32Array(4);
  philoxInto(out, counter[0], counter[1], counter[2], counter[3], key[0], key[1]);
  return [out[0], out[1], out[2], out[3]];
}

/**
 * Many words of one stream: word 4b + j is word j of the block with counter [b, position, stream, 0] and the key
 * [seed mod 2^32, floor(seed / 2^32)].
 * @param options.stream what the numbers are for, 0 .. 2^32 - 1; this package itself uses those below 100
 * @throws DetailFlowError 'invalid-argument'
 */
export function philoxWords(options: DrawOptions & { stream: number }): Uint32Array {
  checkOptions('philoxWords', options, { seed: true, position: true, count: true, stream: true });
  checkDraw(options);
  const { seed, position, count, stream } = options;
  const out = new Uint32Array(count);
  draw(seed, position, stream, count, (i, word) => {
    out[i] = word;
  });
  return out;
}

/** Which numbers to draw. */
export interface DrawOptions {
  /** Safe integer >= 0; its low and high 32 bits are the two key words. Image i of a call uses seed + i. */
  seed: number;
  /** Which run of draws of that seed, 0 .. 2^32 - 1: the position of the token, or the number of the step. */
  position: number;
  /** How many numbers, >= 0. */
  count: number;
}

/**
 * `count` draws from Exp(1) for one token position: the noise e of argmax(p / e). Finite and > 0 in float32.
 *
 * Stream: numbers 4b .. 4b+3 come from Philox4x32-10 with counter [b, position, 0, 0] and key
 * [seed mod 2^32, floor(seed / 2^32)]; a word x becomes -ln((x + 0.5) / 2^32), computed in float64.
 * @param options.out receives the draws; its length must be `count`.
 * @throws DetailFlowError 'invalid-argument'
 */
export function exponentialNoise(options: DrawOptions & { out?: Float32Array }): Float32Array {
  checkOptions('exponentialNoise', options, { seed: true, position: true, count: true, out: true });
  checkDraw(options);
  const { seed, position, count, out = new Float32Array(count) } = options;
  if (out.length !== count) {
    throw new DetailFlowError('invalid-argument', `out holds ${out.length} numbers, count is ${count}`);
  }
  draw(seed, position, Stream.noise, count, (i, word) => {
    out[i] = -Math.log((word + 0.5) * 2 ** -32);
  });
  return out;
}

/**
 * `count` integers drawn uniformly from 0 .. limit - 1: which of the nearest codes a token takes in
 * self-correction.
 *
 * Stream: as in {@link exponentialNoise} with counter [b, position, 1, 0], hence independent of it; a word x
 * becomes floor(x * limit / 2^32), so no rank is off its share by more than 2^-32.
 * @param options.limit 1 .. 2^20
 * @throws DetailFlowError 'invalid-argument'
 */
export function randomRanks(
  options: Omit<DrawOptions, 'position'> & { limit: number; position?: number },
): Int32Array {
  checkOptions('randomRanks', options, { seed: true, count: true, limit: true, position: true });
  const { seed, count, limit, position = 0 } = options;
  checkDraw({ seed, count, position });
  checkInteger('limit', limit, 1, 2 ** 20);
  const out = new Int32Array(count);
  draw(seed, position, Stream.ranks, count, (i, word) => {
    out[i] = Math.floor((word * limit) / 2 ** 32);
  });
  return out;
}

/** The third counter word. */
const Stream = { noise: 0, ranks: 1 } as const;

function draw(
  seed: number,
  position: number,
  stream: number,
  count: number,
  take: (index: number, word: number) => void,
): void {
  const words = new Uint32Array(4);
  const high = Math.floor(seed / 2 ** 32);
  for (let i = 0; i < count; i += 4) {
    philoxInto(words, i / 4, position, stream, 0, seed, high);
    const end = Math.min(4, count - i);
    for (let j = 0; j < end; j++) take(i + j, words[j]);
  }
}

function philoxInto(
  out: Uint32Array,
  c0: number,
  c1: number,
  c2: number,
  c3: number,
  k0: number,
  k1: number,
): void {
  let [x0, x1, x2, x3, key0, key1] = [c0 | 0, c1 | 0, c2 | 0, c3 | 0, k0 | 0, k1 | 0];
  for (let round = 0; round < 10; round++) {
    const high0 = multiplyHigh(0xd251, 0x1f53, x0);
    const high1 = multiplyHigh(0xcd9e, 0x8d57, x2);
    const low0 = Math.imul(0xd2511f53, x0);
    const low1 = Math.imul(0xcd9e8d57, x2);
    x0 = high1 ^ x1 ^ key0;
    x1 = low1;
    x2 = high0 ^ x3 ^ key1;
    x3 = low0;
    key0 = (key0 + 0x9e3779b9) | 0;
    key1 = (key1 + 0xbb67ae85) | 0;
  }
  out[0] = x0;
  out[1] = x1;
  out[2] = x2;
  out[3] = x3;
}

/** The high word of (high * 2^16 + low) * x, unsigned; no partial sum exceeds 32 bits. */
function multiplyHigh(high: number, low: number, x: number): number {
  const xHigh = x >>> 16;
  const xLow = x & 0xffff;
  const middle = (Math.imul(high, xLow) + (Math.imul(low, xLow) >>> 16)) | 0;
  const carry = (Math.imul(low, xHigh) + (middle & 0xffff)) | 0;
  return (Math.imul(high, xHigh) + (middle >>> 16) + (carry >>> 16)) | 0;
}

function checkDraw({ seed, position, count }: DrawOptions): void {
  checkInteger('seed', seed, 0, Number.MAX_SAFE_INTEGER);
  checkInteger('position', position, 0, 2 ** 32 - 1);
  checkInteger('count', count, 0, 2 ** 32 - 1);
}

function checkInteger(name: string, value: number, min: number, max: number): void {
  if (!Number.isInteger(value) || value < min || value > max) {
    throw new DetailFlowError(
      'invalid-argument',
      `${name} is ${describe(value)}; it must be an integer in ${min} .. ${max}`,
    );
  }
}
