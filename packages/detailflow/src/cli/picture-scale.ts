import { MAX_PIXELS } from '@detailflow/data';
import { type Options, UsageError } from './command';
import type { Values } from './values';

const LARGEST_SCALE = 64;

export const scaleOption: Options = {
  scale: {
    type: 'string',
    value: 'N',
    help: 'write every pixel as N x N of them, so that small pictures can be seen (default 1)',
  },
};

/**
 * How many times larger pictures are written.
 * @throws UsageError for no whole number, or one too large
 */
export const pictureScale = (values: Values): number =>
  values.whole('scale', { least: 1, most: LARGEST_SCALE }) ?? 1;

/**
 * Looks before any work is done whether a sheet fits into one file.
 * @param cells pictures on the sheet, each at most `side` x `side` before it is scaled
 * @throws UsageError
 */
export function requireSheetFits(cells: number, side: number, scale: number): void {
  if (cells * (side + 2) ** 2 * scale ** 2 <= MAX_PIXELS) return;
  throw new UsageError(
    `${cells} ${cells === 1 ? 'picture does' : 'pictures do'} not fit into one file${scale > 1 ? ` with --scale ${scale}` : ''}: ` +
      'it would have more than 2^27 pixels',
  );
}
