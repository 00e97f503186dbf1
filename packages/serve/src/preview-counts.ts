import { type ImageTokenizer, scheduleSteps, type TokenModel } from '@detailflow/core';

/**
 * After how many tokens previews of a picture are shown: so many, or fewer where there are not so many different ones. Where
 * previews grow, their sides are about evenly spaced up to that of the picture; else so are the tokens.
 * @param options.total tokens of the picture
 * @param options.from tokens that stand from the beginning: no preview shows them alone
 */
export function previewCounts(
  { tokenModel, tokenizer }: { tokenModel: TokenModel; tokenizer: ImageTokenizer },
  { count, total, from = 0 }: { count: number; total: number; from?: number },
): number[] {
  if (tokenizer.previews === 'none') return [];
  const ends = scheduleSteps(tokenModel.schedule).map((step) => step.position + step.count);
  const known = ends.filter((end) => end > from && end < total);
  const sideAt = (tokens: number) => tokenizer.resolution(tokens);
  const sides = new Set([...known, total].map(sideAt));
  const worth = sides.size > 1 ? sideAt : (tokens: number) => tokens;
  const grows = known.filter(
    (end, i) => worth(end) < worth(total) && (i === 0 || worth(end) > worth(known[i - 1])),
  );
  const chosen: number[] = [];
  for (let i = 0; i < count; i++) {
    const left = grows.filter((end) => end > (chosen.at(-1) ?? 0));
    const spare = left.length - (count - i); // so many may be skipped
    const wanted = (worth(total) * (i + 1)) / (count + 1);
    const found = left.findIndex((end) => worth(end) >= wanted);
    const at = Math.min(found < 0 ? left.length - 1 : found, Math.max(0, spare));
    if (left.length > 0) chosen.push(left[at]);
  }
  return chosen;
}
