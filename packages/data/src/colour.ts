import { DetailFlowError } from '@detailflow/core';
import type { Colour } from './contact-sheet';

/** White, as 8-bit red, green, blue. */
export const white: Colour = [255, 255, 255];
/** Black, as 8-bit red, green, blue. */
export const black: Colour = [0, 0, 0];

/** A colour as {@link parseColour} reads it. */
export const colourText = (colour: Colour): string =>
  `#${colour.map((value) => value.toString(16).padStart(2, '0')).join('')}`;

/**
 * A colour from its name or number: `white`, `black` or `#rrggbb`.
 * @throws DetailFlowError `invalid-argument`
 */
export function parseColour(text: string): Colour {
  if (text === 'white') return white;
  if (text === 'black') return black;
  const parts = /^#([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})$/i.exec(text);
  if (!parts) {
    throw new DetailFlowError(
      'invalid-argument',
      `"${text.slice(0, 40)}" is no colour; give white, black or #rrggbb`,
    );
  }
  const [r, g, b] = parts.slice(1).map((part) => Number.parseInt(part, 16));
  return [r, g, b];
}
