import { checkOptions, DetailFlowError, describe, Picture } from '@detailflow/core';

/** Red, green, blue, 0 .. 255. */
export type Colour = readonly [number, number, number];

/** Gaps and background of a sheet of pictures. */
export interface SheetOptions {
  /** Pixels between neighbours and around the edge; 2 by default. */
  gap?: number;
  /** Colour of the gaps; white by default. */
  background?: Colour;
}

/** A small picture as large as whole pixels allow, at most `side` wide: what it shows stays what was measured. */
export function wholeEnlarged(picture: Picture, side: number): Picture {
  const factor = Math.floor(side / picture.width);
  return factor > 1 ? upscaleNearest(picture, factor) : picture;
}

/**
 * Pictures in reading order on a grid. Cells are as large as the largest picture; smaller ones are centred.
 * @param options.columns >= 1; the last row may be shorter
 * @throws DetailFlowError 'invalid-argument' for no pictures, bad columns or gap; 'limit' beyond 2^27 pixels
 */
export function gridPicture(
  pictures: readonly Picture[],
  options: SheetOptions & { columns: number },
): Picture {
  checkOptions('gridPicture', options, { gap: true, background: true, columns: true });
  checkWhole('columns', options.columns, 1);
  const columns = Math.min(options.columns, checkAny(pictures));
  const width = Math.max(...pictures.map((picture) => picture.width));
  const height = Math.max(...pictures.map((picture) => picture.height));
  const { gap, sheet } = blank(options, (between) => [
    between + columns * (width + between),
    between + Math.ceil(pictures.length / columns) * (height + between),
  ]);
  for (const [i, picture] of pictures.entries()) {
    const left = gap + (i % columns) * (width + gap) + Math.floor((width - picture.width) / 2);
    const top = gap + Math.floor(i / columns) * (height + gap) + Math.floor((height - picture.height) / 2);
    paste(sheet, picture, left, top);
  }
  return sheet;
}

/**
 * Pictures in one row, each scaled to the height of the tallest by nearest neighbour: how an image of one
 * pixel grows to full size.
 * @throws DetailFlowError 'invalid-argument' for no pictures or a bad gap; 'limit' beyond 2^27 pixels
 */
export function stripPicture(pictures: readonly Picture[], options: SheetOptions = {}): Picture {
  checkOptions('stripPicture', options, { gap: true, background: true });
  checkAny(pictures);
  const height = Math.max(...pictures.map((picture) => picture.height));
  const widths = pictures.map((picture) =>
    Math.max(1, Math.round((picture.width * height) / picture.height)),
  );
  const { gap, sheet } = blank(options, (between) => [
    widths.reduce((sum, width) => sum + width + between, between),
    height + 2 * between,
  ]);
  let left = gap;
  for (const [i, picture] of pictures.entries()) {
    paste(sheet, scaleNearest(picture, widths[i], height), left, gap);
    left += widths[i] + gap;
  }
  return sheet;
}

/**
 * Every pixel as a square of `factor` x `factor` pixels.
 * @throws DetailFlowError 'invalid-argument' unless factor is an integer >= 1; 'limit' beyond 2^27 pixels
 */
export function upscaleNearest(picture: Picture, factor: number): Picture {
  checkWhole('factor', factor, 1);
  return scaleNearest(picture, picture.width * factor, picture.height * factor);
}

/** Pixels of the largest sheet. */
export const MAX_PIXELS = 2 ** 27;

function scaleNearest(picture: Picture, width: number, height: number): Picture {
  checkSize(width, height);
  const source = new Uint32Array(picture.data.slice().buffer); // one word a pixel
  const out = new Uint32Array(width * height);
  for (let y = 0; y < height; y++) {
    const row = Math.floor(((y + 0.5) * picture.height) / height) * picture.width;
    for (let x = 0; x < width; x++) {
      out[y * width + x] = source[row + Math.floor(((x + 0.5) * picture.width) / width)];
    }
  }
  return new Picture(new Uint8ClampedArray(out.buffer), width, height);
}

/** An empty sheet whose size follows from the gap. */
function blank(
  { gap = 2, background = [255, 255, 255] }: SheetOptions,
  size: (gap: number) => [width: number, height: number],
): { gap: number; sheet: Picture } {
  checkWhole('gap', gap, 0);
  const [width, height] = size(gap);
  checkSize(width, height);
  const data = new Uint8ClampedArray(width * height * 4);
  for (let at = 0; at < data.length; at += 4) data.set([...background, 255], at);
  return { gap, sheet: new Picture(data, width, height) };
}

function paste(sheet: Picture, picture: Picture, left: number, top: number): void {
  for (let y = 0; y < picture.height; y++) {
    const row = picture.data.subarray(4 * y * picture.width, 4 * (y + 1) * picture.width);
    sheet.data.set(row, 4 * ((top + y) * sheet.width + left));
  }
}

function checkAny(pictures: readonly Picture[]): number {
  if (pictures.length === 0) throw new DetailFlowError('invalid-argument', 'no pictures to put on a sheet');
  return pictures.length;
}

function checkWhole(name: string, value: number, min: number): void {
  if (!Number.isSafeInteger(value) || value < min) {
    throw new DetailFlowError(
      'invalid-argument',
      `${name} is ${describe(value)}; it must be an integer >= ${min}`,
    );
  }
}

function checkSize(width: number, height: number): void {
  if (width * height > MAX_PIXELS) {
    throw new DetailFlowError(
      'limit',
      `a picture of ${width} x ${height} exceeds ${MAX_PIXELS} pixels: use fewer or smaller pictures`,
    );
  }
}
