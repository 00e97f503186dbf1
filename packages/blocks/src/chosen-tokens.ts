import { DetailFlowError } from '@detailflow/core';

/**
 * Checks the tokens that were chosen for a prediction.
 * @param chosen token ids, row by row; undefined where none were chosen
 * @param options the prediction
 * @param options.expected how many were predicted, over all rows; 0 before the first prediction
 * @param options.vocabularySize tokens must be below it
 * @throws DetailFlowError `invalid-argument` for another number of them, or one outside the vocabulary
 */
export function checkChosenTokens(
  chosen: Int32Array | undefined,
  { expected, vocabularySize }: { readonly expected: number; readonly vocabularySize: number },
): void {
  const count = chosen?.length ?? 0;
  if (count !== expected) {
    throw new DetailFlowError('invalid-argument', `${count} tokens were chosen, ${expected} were predicted`);
  }
  const wrong = chosen?.find((token) => token < 0 || token >= vocabularySize);
  if (wrong !== undefined) {
    throw new DetailFlowError('invalid-argument', `the token ${wrong} is not in 0..${vocabularySize - 1}`);
  }
}
