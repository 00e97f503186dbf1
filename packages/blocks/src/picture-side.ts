import { DetailFlowError, describe } from '@detailflow/core';

/** Side in pixels of the largest picture that is resized to. */
const LARGEST_PICTURE = 8192;

/**
 * Checks the side in pixels that a picture is to be resized to, where one is given: 1 to 8192.
 * @throws DetailFlowError `invalid-argument`
 */
export function requirePictureSide(size: number | undefined): void {
  if (size === undefined || (Number.isInteger(size) && size >= 1 && size <= LARGEST_PICTURE)) return;
  throw new DetailFlowError(
    'invalid-argument',
    `size is ${describe(size)}; give 1 to ${LARGEST_PICTURE} pixels`,
  );
}
