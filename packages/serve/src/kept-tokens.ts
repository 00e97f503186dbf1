import { scheduleSteps, Tensor, type TokenModel } from '@detailflow/core';
import { readImage } from '@detailflow/data/node';
import sharp, { type Metadata } from 'sharp';
import { ApiError, badField, toApiError } from './api-error';
import type { KeptTokens, Serving } from './picture-request';
import { sizeOfTokens, sizeText } from './picture-size';

/** Scales of up to so many places are kept whole. Source: docs/family/var.md section 3. */
const ALWAYS_KEPT = 3;
/** Sides of uploaded pictures are bounded by this many pixels in all. */
const MOST_PIXELS = 50_000_000;

/** @throws ApiError 400 for a model whose pictures are not square: those to encode are cut so */
export function requireSquare({ model: { tokenizer }, tokenModel }: Serving): void {
  const size = sizeOfTokens(tokenizer, tokenModel.tokens);
  if (size.width === size.height) return;
  throw badField(
    'image',
    `pictures to encode are cut square, and those of this model are ${sizeText(size)}: it only draws new ones here`,
    'unsupported',
  );
}

/** The picture of a form. @throws ApiError 400 when there is none, or more than one */
export function imageOf(form: ReadonlyMap<string, readonly (string | File)[]>): File {
  const images = [...(form.get('image') ?? []), ...(form.get('image[]') ?? [])];
  if (images.length > 1) throw badField('image', `${images.length} images; give one`);
  return requireFile('image', images[0]);
}

/** The mask of a form, if it has one. */
export function maskOf(form: ReadonlyMap<string, readonly (string | File)[]>): File | undefined {
  const masks = form.get('mask') ?? [];
  if (masks.length > 1) throw badField('mask', `${masks.length} masks; give one`);
  return masks.length === 0 ? undefined : requireFile('mask', masks[0]);
}

function requireFile(param: string, value: string | File | undefined): File {
  if (value instanceof File) return value;
  throw badField(param, `give ${param} as a file`, 'missing_field');
}

/** The codes of an uploaded picture, int32 [1, N]: centre-cropped to a square of the size that the model draws. */
async function codesOf(
  { model, tokenModel }: Serving,
  image: File,
  signal: AbortSignal,
): Promise<Tensor<'int32'>> {
  const side = model.tokenizer.resolution(tokenModel.tokens);
  let pixels: Float32Array;
  try {
    await requireSmall('image', image);
    pixels = await readImage(new Uint8Array(await image.arrayBuffer()), side);
  } catch (error) {
    const { status, message } = toApiError(error);
    throw status === 400 ? badField('image', message, 'invalid_image') : error;
  }
  const images = new Tensor('float32', pixels, [1, 3, side, side]);
  return model.tokenizer.encode(images, { tokens: tokenModel.tokens, signal });
}

/** Keeps the first `count` tokens of a picture. @throws ApiError 400 */
export async function keepFirst(
  serving: Serving,
  { image, count, signal }: { image: File; count: number; signal: AbortSignal },
): Promise<KeptTokens> {
  const { tokens } = serving.tokenModel;
  if (count > tokens) throw badField('keep', `keep is ${count}; the model has ${tokens} tokens`);
  const codes = await codesOf(serving, image, signal);
  if (count === 0) return { count };
  return { count, prefix: new Tensor('int32', codes.data.slice(0, count), [1, count]) };
}

/**
 * Keeps the tokens of a picture whose place the mask does not touch: what is transparent in it is drawn anew.
 * @throws ApiError 400, also where the tokens of the model have no places
 */
export async function keepOutside(
  serving: Serving,
  { image, mask, signal }: { image: File; mask: File; signal: AbortSignal },
): Promise<KeptTokens> {
  const { tokenModel } = serving;
  const sides = placeSides(serving);
  const { side, transparent } = await transparentPixels(mask, image);
  const kept = sides.flatMap((across) => {
    const places = across * across;
    if (sides.length > 1 && places <= ALWAYS_KEPT) return Array<number>(places).fill(1);
    return Array.from({ length: places }, (_, place) =>
      Number(
        !isTouched(transparent, side, { across, row: Math.floor(place / across), column: place % across }),
      ),
    );
  });
  const codes = await codesOf(serving, image, signal);
  return { count: 0, keep: { codes, mask: new Tensor('bool', Uint8Array.from(kept), [tokenModel.tokens]) } };
}

/** Sides of the grids that the tokens lie on, in their order: one grid row by row, or one a scale. */
function placeSides({ model: { tokenizer }, tokenModel }: Serving): number[] {
  const steps = scheduleSteps(tokenModel.schedule);
  const isRaster = tokenizer.previews === 'rows' && steps.every(({ count }) => count === 1);
  const grids = isRaster ? [tokenModel.tokens] : steps.map(({ count }) => count);
  const sides = grids.map(Math.sqrt);
  const isScales = tokenizer.previews === 'scales';
  if ((isRaster || isScales) && sides.every(Number.isInteger)) return sides;
  throw badField(
    'mask',
    'the tokens of this model have no places in the picture that a mask could name: leave it out, and give "keep"',
    'unsupported',
  );
}

/** 1 for every pixel [side * side] of the upright mask's middle square that is fully transparent. */
async function transparentPixels(
  mask: File,
  image: File,
): Promise<{ side: number; transparent: Uint8Array }> {
  const [own, shown] = [await requireSmall('mask', mask), await requireSmall('image', image)];
  // As a person sees them, and as the picture is read: turned as each says of itself.
  const [{ width, height }, other] = [own.autoOrient, shown.autoOrient];
  if (width !== other.width || height !== other.height) {
    throw badField(
      'mask',
      `the mask is ${width} x ${height} pixels, the image ${other.width} x ${other.height}`,
      'invalid_image',
    );
  }
  if (!own.hasAlpha) {
    throw badField(
      'mask',
      'the mask has no transparency: what is transparent is drawn anew',
      'invalid_image',
    );
  }
  const side = Math.min(width, height);
  const [left, top] = [Math.floor((width - side) / 2), Math.floor((height - side) / 2)];
  try {
    const alpha = await sharp(await bytesOf(mask), { limitInputPixels: MOST_PIXELS, autoOrient: true })
      .extract({ left, top, width: side, height: side })
      .extractChannel('alpha')
      .toColourspace('b-w')
      .raw()
      .toBuffer();
    return { side, transparent: Uint8Array.from(alpha, (value) => Number(value === 0)) };
  } catch (cause) {
    throw new ApiError(400, 'the mask cannot be read', { param: 'mask', code: 'invalid_image', cause });
  }
}

/** Looks into the header of a picture. @throws ApiError 400 for none, and for one of too many pixels */
async function requireSmall(param: string, file: File): Promise<Metadata> {
  let found: Metadata;
  try {
    found = await sharp(await bytesOf(file), { limitInputPixels: MOST_PIXELS }).metadata();
  } catch (cause) {
    throw new ApiError(400, `the ${param} is no picture that is read here`, {
      param,
      code: 'invalid_image',
      cause,
    });
  }
  if (found.width * found.height <= MOST_PIXELS) return found;
  throw badField(param, `the ${param} has more than ${MOST_PIXELS} pixels`, 'invalid_image');
}

const bytesOf = async (file: File): Promise<Uint8Array> => new Uint8Array(await file.arrayBuffer());

function isTouched(
  transparent: Uint8Array,
  side: number,
  { across, row, column }: { across: number; row: number; column: number },
): boolean {
  const first = (place: number) => Math.floor((place * side) / across);
  const end = (place: number) => Math.ceil(((place + 1) * side) / across); // pixels on a border belong to both
  for (let y = first(row); y < end(row); y++) {
    for (let x = first(column); x < end(column); x++) if (transparent[y * side + x] === 1) return true;
  }
  return false;
}

/** The tokens that stay where a request does not say: a share of all. */
export const defaultKeep = ({ tokens }: TokenModel, share: number): number => Math.round(tokens * share);
