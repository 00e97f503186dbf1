import { checkOptions, DetailFlowError, describe } from '@detailflow/core';

/** What determines a {@link ResolutionMap}. */
export interface ResolutionMapOptions {
  /** N, how many tokens a full-size image has: 2 .. 65536, a multiple of `groupSize`. */
  tokens: number;
  /** g, how many tokens are predicted at once: >= 1. */
  groupSize: number;
  /** c, how many tokens come one by one at the start: a multiple of `groupSize`, 0 for none, or null for one group. */
  causalNum?: number | null;
  /** Rmax, the side of a full-size image in pixels: 1 .. 65536. */
  maxImageSize: number;
  /** a, how steeply the resolution rises with the tokens (`degradation_power`): > 0, 1.5 by default. */
  power?: number;
  /** Side of an encoder patch in pixels. */
  encoderPatch: number;
  /** Side of a decoder patch in pixels. */
  decoderPatch: number;
}

/**
 * What the first n tokens of an image are worth: R(n) = Rmax - (Rmax - 1) / (N - 1)^a * (N - n)^a pixels a
 * side, and that size snapped to whole patches. "Token counts" are the n that the model knows: 1 .. c one by
 * one, then every whole group up to N. Sizes are sides of square images in pixels.
 * Source: docs/method.md section 2 (arXiv 2505.21473).
 */
export interface ResolutionMap extends Readonly<Required<ResolutionMapOptions>> {
  /** c with the default filled in. */
  readonly causalNum: number;
  /** Every token count, ascending. */
  readonly tokenCounts: readonly number[];

  /** trunc(R(n)), 1 .. Rmax, for any n in 1 .. N. */
  tokenToRes(n: number): number;
  /** tokenToRes in whole encoder patches, rounded up. */
  tokenToEncRes(n: number): number;
  /** tokenToRes in whole decoder patches, rounded up. */
  tokenToDecRes(n: number): number;
  /** The size at which n tokens are decoded: tokenToDecRes, at least one decoder patch. */
  tokenToDecOutRes(n: number): number;

  /** Decoder size -> the token count whose tokenToRes is nearest to it (of equally near ones the largest). */
  readonly decResToBestToken: ReadonlyMap<number, number>;
  /** Encoder size -> the same. */
  readonly encResToBestToken: ReadonlyMap<number, number>;
  /** Decoder size -> the smallest token count that decodes to it. */
  readonly decResToMinToken: ReadonlyMap<number, number>;
  /** Decoder size -> the largest token count that decodes to it. */
  readonly decResToMaxToken: ReadonlyMap<number, number>;
  /** The keys of decResToBestToken, ascending. */
  readonly bestResolutions: readonly number[];
  /** Its values, in the same order. */
  readonly bestTokens: readonly number[];
  /** The nearest of bestResolutions; of two equally near ones the smaller. */
  findClosestResolution(size: number): number;

  /**
   * How many values the self-correction draw has for images decoded from t tokens (a token count): the draw is
   * uniform over 0 .. limit - 1. Null where there is nothing to correct (t = 1, or the first group where c = 0).
   */
  noiseTokenLimit(t: number): number | null;
  /** A draw of 0 .. noiseTokenLimit(t) - 1 as the first noisy token; whole groups from c on. Null where the limit is. */
  noiseTokenIndex(draw: number, t: number): number | null;

  /**
   * The largest degradation draw for images of n tokens (a token count, N by default): the draw is uniform
   * over 1 .. limit. 0 where there is no smaller image to decode.
   */
  degradationLimit(n?: number): number;
  /** What a degradation draw of 1 .. degradationLimit(N) means. */
  degradation(draw: number): Degradation;
}

/** One step of coarse-to-fine training: the target is shrunk to targetRes, then resized to decRes. */
export interface Degradation {
  /** How many tokens the decoder gets: the draw, rounded up to a whole group beyond c. */
  tokens: number;
  targetRes: number;
  /** The size of target and decoded image. */
  decRes: number;
}

/**
 * Builds the resolution map of a tokenizer. Functions of the map throw DetailFlowError 'invalid-argument' for
 * arguments outside their stated range.
 * @throws DetailFlowError 'config' for settings no model can have
 */
export function createResolutionMap(options: ResolutionMapOptions): ResolutionMap {
  checkOptions('createResolutionMap', options, {
    tokens: true,
    groupSize: true,
    causalNum: true,
    maxImageSize: true,
    power: true,
    encoderPatch: true,
    decoderPatch: true,
  });
  const settings = checkSettings(options);
  const { tokens, groupSize, causalNum, maxImageSize, encoderPatch, decoderPatch } = settings;

  const tokenCounts = Array.from({ length: causalNum }, (_, i) => i + 1);
  for (let n = causalNum + groupSize; n <= tokens; n += groupSize) tokenCounts.push(n);
  const known = new Set(tokenCounts);

  const resolutions = allResolutions(settings);
  const tokenToRes = (n: number) => resolutions[checkRange('n', n, 1, tokens) - 1];
  const tokenToEncRes = (n: number) => snap(tokenToRes(n), encoderPatch, maxImageSize);
  const tokenToDecRes = (n: number) => snap(tokenToRes(n), decoderPatch, maxImageSize);
  const tokenToDecOutRes = (n: number) => Math.max(tokenToDecRes(n), decoderPatch);

  const decResToMinToken = new Map<number, number>();
  const decResToMaxToken = new Map<number, number>();
  for (const n of tokenCounts) {
    const size = tokenToDecRes(n);
    if (!decResToMinToken.has(size)) decResToMinToken.set(size, n);
    decResToMaxToken.set(size, n);
  }
  const decResToBestToken = nearestTokens(tokenCounts, tokenToRes, tokenToDecRes);
  const bestResolutions = [...decResToBestToken.keys()];

  const checkCount = (name: string, n: number) => {
    if (!known.has(n)) {
      throw new DetailFlowError(
        'invalid-argument',
        `${name} is ${describe(n)}; it must be a token count: a multiple of ${groupSize} up to ${tokens}, or 1 .. ${causalNum}`,
      );
    }
  };

  const noiseTokenLimit = (t: number) => {
    checkCount('t', t);
    const limit = t <= causalNum ? t : t - groupSize;
    return t === 1 || limit === 0 ? null : limit;
  };
  const degradationLimit = (n = tokens) => {
    checkCount('n', n);
    return Math.max(0, n - groupSize);
  };

  return {
    ...settings,
    tokenCounts,
    tokenToRes,
    tokenToEncRes,
    tokenToDecRes,
    tokenToDecOutRes,
    decResToBestToken,
    encResToBestToken: nearestTokens(tokenCounts, tokenToRes, tokenToEncRes),
    decResToMinToken,
    decResToMaxToken,
    bestResolutions,
    bestTokens: [...decResToBestToken.values()],
    findClosestResolution: (size) => nearest(bestResolutions, size),
    noiseTokenLimit,
    noiseTokenIndex(draw, t) {
      const limit = noiseTokenLimit(t);
      if (limit === null) return null;
      checkRange('draw', draw, 0, limit - 1);
      return draw < causalNum ? draw : draw - (draw % groupSize);
    },
    degradationLimit,
    degradation(draw) {
      checkRange('draw', draw, 1, degradationLimit());
      const n = draw <= causalNum ? draw : Math.ceil(draw / groupSize) * groupSize;
      return { tokens: n, targetRes: tokenToRes(n), decRes: tokenToDecOutRes(n) };
    },
  };
}

type Settings = Required<ResolutionMapOptions> & { causalNum: number };

/** trunc(R(n)) for n = 1 .. N, in float64 in the order of the official code. */
function allResolutions({ tokens, maxImageSize, power }: Settings): number[] {
  const slope = (maxImageSize - 1) / (tokens - 1) ** power;
  return Array.from({ length: tokens }, (_, i) => {
    const resolution = Math.trunc(maxImageSize - slope * (tokens - 1 - i) ** power);
    return Math.min(maxImageSize, Math.max(1, resolution));
  });
}

function snap(resolution: number, patch: number, maxImageSize: number): number {
  const roundUp = (size: number) => Math.ceil(size / patch) * patch;
  return Math.min(roundUp(resolution), roundUp(maxImageSize));
}

function nearestTokens(
  tokenCounts: readonly number[],
  tokenToRes: (n: number) => number,
  snapped: (n: number) => number,
): Map<number, number> {
  const best = new Map<number, number>();
  for (const n of tokenCounts) {
    const size = snapped(n);
    const before = best.get(size);
    if (before === undefined || Math.abs(tokenToRes(n) - size) <= Math.abs(tokenToRes(before) - size)) {
      best.set(size, n);
    }
  }
  return best;
}

function nearest(sizes: readonly number[], wanted: number): number {
  if (!Number.isFinite(wanted)) {
    throw new DetailFlowError(
      'invalid-argument',
      `size is ${describe(wanted)}; it must be a finite number of pixels`,
    );
  }
  return sizes.reduce((best, size) => (Math.abs(size - wanted) < Math.abs(best - wanted) ? size : best));
}

function checkRange(
  name: string,
  value: number,
  min: number,
  max: number,
  code: 'config' | 'invalid-argument' = 'invalid-argument',
): number {
  if (!Number.isInteger(value) || value < min || value > max) {
    throw new DetailFlowError(
      code,
      max < min
        ? `${name} is ${describe(value)}, but with this configuration there is nothing to draw from`
        : `${name} is ${describe(value)}; it must be an integer in ${min} .. ${max}`,
    );
  }
  return value;
}

/** No released or plausible model comes near; it bounds the tables that a broken configuration can ask for. */
const LIMIT = 65536;

function checkSettings(options: ResolutionMapOptions): Settings {
  const { tokens, groupSize, maxImageSize, power = 1.5, encoderPatch, decoderPatch } = options;
  const causalNum = options.causalNum ?? groupSize;
  checkRange('tokens', tokens, 2, LIMIT, 'config');
  checkRange('groupSize', groupSize, 1, tokens, 'config');
  checkRange('causalNum', causalNum, 0, tokens, 'config');
  checkRange('maxImageSize', maxImageSize, 1, LIMIT, 'config');
  checkRange('encoderPatch', encoderPatch, 1, LIMIT, 'config');
  checkRange('decoderPatch', decoderPatch, 1, LIMIT, 'config');
  for (const [name, value] of Object.entries({ tokens, causalNum })) {
    if (value % groupSize === 0) continue;
    throw new DetailFlowError(
      'config',
      `${name} is ${describe(value)}, but tokens come in groups of ${groupSize}: choose a multiple of groupSize`,
    );
  }
  if (!(power > 0) || !Number.isFinite((tokens - 1) ** power)) {
    throw new DetailFlowError(
      'config',
      `power is ${describe(power)}; it must be > 0, and (tokens - 1)^power finite (official: 1.5)`,
    );
  }
  return { tokens, groupSize, causalNum, maxImageSize, power, encoderPatch, decoderPatch };
}
