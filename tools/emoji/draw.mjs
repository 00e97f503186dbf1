// One drawing as a small picture.
import sharp from 'sharp';

/** Drawings are rendered so many times larger, and shrunk. */
const OVERSAMPLING = 4;
/** Alpha from which on a pixel is part of the drawing. */
const VISIBLE = 16;
/** Least share of pixels that are not white: anything below is blank. */
const LEAST_INK = 0.04;

/**
 * Renders a drawing, cuts it to what is there and lays it in the middle of a white square.
 * @param options.size side of the picture; margin: white pixels around
 * @returns PNG bytes; undefined when there is nothing to be seen
 */
export async function drawIcon({ body, box }, { size, margin }) {
  const big = OVERSAMPLING * size;
  const colour = body.replaceAll('currentColor', '#333');
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="${box.join(' ')}" width="${big}" height="${big}">${colour}</svg>`;
  const data = await sharp(Buffer.from(svg)).ensureAlpha().raw().toBuffer();
  const bounds = boundsOf(data, big);
  if (!bounds) return undefined;
  const { left, top, width, height } = bounds;
  const side = Math.max(width, height);
  // white is laid under before shrinking, so that edges are mixed with white and not with transparent black
  const square = await sharp(data, { raw: { width: big, height: big, channels: 4 } })
    .extract({ left, top, width, height })
    .flatten({ background: '#fff' })
    .extend({
      left: Math.floor((side - width) / 2),
      right: Math.ceil((side - width) / 2),
      top: Math.floor((side - height) / 2),
      bottom: Math.ceil((side - height) / 2),
      background: '#fff',
    })
    .raw()
    .toBuffer();
  const small = sharp(square, { raw: { width: side, height: side, channels: 3 } })
    .resize(size - 2 * margin, size - 2 * margin, { kernel: 'lanczos3' })
    .extend({ left: margin, right: margin, top: margin, bottom: margin, background: '#fff' });
  const pixels = await small.clone().raw().toBuffer();
  let ink = 0;
  for (let i = 0; i < pixels.length; i += 3) ink += Math.min(...pixels.subarray(i, i + 3)) < 235 ? 1 : 0;
  return ink < LEAST_INK * size * size ? undefined : small.png({ compressionLevel: 9 }).toBuffer();
}

/** The smallest rectangle around everything visible. */
function boundsOf(data, side) {
  let [left, top, right, bottom] = [side, side, -1, -1];
  for (let row = 0; row < side; row++) {
    for (let column = 0; column < side; column++) {
      if (data[4 * (row * side + column) + 3] < VISIBLE) continue;
      left = Math.min(left, column);
      right = Math.max(right, column);
      top = Math.min(top, row);
      bottom = Math.max(bottom, row);
    }
  }
  return right < left ? undefined : { left, top, width: right - left + 1, height: bottom - top + 1 };
}
