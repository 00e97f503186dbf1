import { DetailFlowError } from '@detailflow/core';

/** Pictures that one seed of an evaluation has room for. */
export const PICTURES_PER_SEED = 1_000_000;

/** The largest seed of an evaluation: the seeds of its pictures are exact numbers. */
const MOST = Math.floor(Number.MAX_SAFE_INTEGER / PICTURES_PER_SEED) - 1;

/**
 * The seed of the first picture of every seed of an evaluation: seed s begins at s * 1,000,000, and picture i uses that
 * number + i. So different seeds never draw the same picture however many are drawn, a picture depends on s and i
 * alone, and `generate` draws it again with the seed s * 1,000,000 + i.
 * @param count pictures of each seed, at most 1,000,000
 * @throws DetailFlowError `invalid-argument` for a seed that is given twice or no whole number from 0 to 9,007,199,253, or
 *   too many pictures
 */
export function firstPictureSeeds(seeds: readonly number[], count: number): number[] {
  if (!Number.isInteger(count) || count < 1 || count > PICTURES_PER_SEED) {
    throw new DetailFlowError(
      'invalid-argument',
      `${count} pictures with a seed; give a whole number from 1 to ${PICTURES_PER_SEED}`,
    );
  }
  for (const [i, seed] of seeds.entries()) {
    if (!Number.isInteger(seed) || seed < 0 || seed > MOST) {
      throw new DetailFlowError('invalid-argument', `seed ${seed}: give a whole number from 0 to ${MOST}`);
    }
    if (seeds.indexOf(seed) !== i) {
      throw new DetailFlowError(
        'invalid-argument',
        `seed ${seed} is given twice and would draw the same pictures twice; give different seeds`,
      );
    }
  }
  return seeds.map((seed) => seed * PICTURES_PER_SEED);
}
