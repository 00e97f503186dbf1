import { DetailFlowError } from '@detailflow/core';
import { type Colour, parseColour } from '@detailflow/data';
import { type Options, UsageError } from './command';
import type { Values } from './values';

/** How pictures that a person hands over are read. */
export const pictureOptions: Options = {
  background: {
    type: 'string',
    value: 'COLOUR',
    help: 'what transparent pictures are laid on: white (default), black or #rrggbb',
  },
};

/** What `--background` says. @throws UsageError */
export function backgroundOf(values: Values): Colour | undefined {
  const text = values.text('background');
  try {
    return text === undefined ? undefined : parseColour(text);
  } catch (error) {
    throw DetailFlowError.isInstance(error) ? new UsageError(`--background: ${error.message}`) : error;
  }
}

/** What is said where pictures are missing. */
export const noPictures = 'give at least one picture (png, jpeg, webp, gif, tiff, avif, bmp, ppm or .npy)';
