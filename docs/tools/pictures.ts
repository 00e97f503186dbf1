// Makes the pictures of the guides from the model in the box: `npm run docs:pictures`.
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { pixelToByte } from '@detailflow/core';
import { modelUrl } from '@detailflow/model-emoji-64';
import { attentionMask, type Tokenizer } from '@detailflow/tokenizer';
import {
  gridPicture,
  load,
  Picture,
  pictureFromPixels,
  psnr,
  stripPicture,
  Tensor,
  upscaleNearest,
} from 'detailflow';

const out = process.argv[2] ?? fileURLToPath(new URL('../images', import.meta.url));
await mkdir(out, { recursive: true });
const model = await load(modelUrl);
const tokenizer = model.detailflow?.tokenizer as Tokenizer;
const { groupSize, causalTokens, imageSize, tokens } = tokenizer.config;

await growth();
await hero();
await selfCorrection();
await write('attention-mask.svg', maskDrawing(attentionMask(maskOptions())));
await write('resolution.svg', curveDrawing());
await model.dispose();

/** One picture after every step, side by side in one file, and what each is worth. */
async function growth(): Promise<void> {
  const subject = 'happy-face';
  const previews: { tokens: number; side: number; resolution: number; left: number }[] = [];
  const pictures: Picture[] = [];
  let left = 0;
  for await (const step of model.generate({ labels: [subject], seed: 7, cfg: model.card?.recipe?.cfg })) {
    const picture = await step.image();
    const resolution = tokenizer.resolutions.tokenToRes(step.count);
    previews.push({ tokens: step.count, side: picture.width, resolution, left });
    pictures.push(picture);
    left += picture.width;
  }
  await writeFile(path.join(out, 'strip.png'), await sideBySide(pictures).toPng());
  const curve = Array.from({ length: tokens }, (_, i) => [i + 1, Number(R(i + 1).toFixed(2))]);
  await write('strip.json', `${JSON.stringify({ subject, previews, curve })}\n`);
  const shown = previews.filter(({ tokens: count }) => Number.isInteger(Math.log2(count)));
  const row = shown.map(({ tokens: count }) => pictures[previews.findIndex((one) => one.tokens === count)]);
  const large = upscaleNearest(row[row.length - 1], 2);
  await writeFile(
    path.join(out, 'growing.png'),
    await stripPicture([...row.slice(0, -1), large], { gap: 4 }).toPng(),
  );
}

/** Four pictures from few tokens to all, one below the other: what the first page shows. */
async function hero(): Promise<void> {
  const labels = ['happy-face', 'heart', 'clock', 'cat-face'];
  const shown = new Map<number, Picture[]>();
  for await (const step of model.generate({ labels, seed: 80, cfg: model.card?.recipe?.cfg })) {
    const pixels = await step.pixels();
    const side = pixels.dims[2];
    // The last of each size that can be enlarged by whole pixels to that of all tokens.
    if (imageSize % side !== 0) continue;
    shown.set(
      side,
      labels.map((_, i) => upscaleNearest(pictureFromPixels(pixels, i), (2 * imageSize) / side)),
    );
  }
  const rows = labels.flatMap((_, i) => [...shown.values()].map((column) => column[i]));
  await writeFile(
    path.join(out, 'hero.png'),
    await gridPicture(rows, { columns: shown.size, gap: 8 }).toPng(),
  );
}

/** R(n), as docs/method.md section 2 has it. */
function R(n: number): number {
  const { maxImageSize, power } = tokenizer.resolutions;
  return maxImageSize - ((maxImageSize - 1) / (tokens - 1) ** power) * (tokens - n) ** power;
}

/** Pictures at their own sizes in one row, top aligned, on white. */
function sideBySide(pictures: readonly Picture[]): Picture {
  const width = pictures.reduce((sum, picture) => sum + picture.width, 0);
  const height = Math.max(...pictures.map((picture) => picture.height));
  const data = new Uint8ClampedArray(4 * width * height).fill(255);
  let left = 0;
  for (const picture of pictures) {
    for (let y = 0; y < picture.height; y++) {
      const row = picture.data.subarray(4 * y * picture.width, 4 * (y + 1) * picture.width);
      data.set(row, 4 * (y * width + left));
    }
    left += picture.width;
  }
  return new Picture(data, width, height);
}

/**
 * Drawn pictures, encoded with a group of wrong tokens: as they are, with the wrong group and all else unchanged, and
 * with the tokens after it repaired.
 */
async function selfCorrection(): Promise<void> {
  const labels = ['happy-face', 'cat-face', 'heart', 'clock', 'flag'];
  let images: Tensor<'float32'> | undefined;
  for await (const step of model.generate({ labels, seed: 11, cfg: model.card?.recipe?.cfg })) {
    if (step.count < step.total) continue;
    const { data, dims } = await step.pixels();
    images = new Tensor(
      'float32',
      data.map((value) => pixelToByte(value) / 127.5 - 1),
      dims,
    );
  }
  if (!images) throw new Error('nothing was drawn');
  const [first, second] = [causalTokens, causalTokens + groupSize];
  const { clean, input } = await tokenizer.encodeCorrected(images, { noiseIndex: first, seed: 5 });
  const wrong = new Tensor('int32', clean.data.slice(), clean.dims);
  for (let image = 0; image < labels.length; image++) {
    const at = image * tokens;
    wrong.data.set(input.data.subarray(at + first, at + second), at + first);
  }
  const rows = await Promise.all([clean, wrong, input].map((codes) => tokenizer.decode(codes)));
  const pictures = [images, ...rows].flatMap((pixels) =>
    labels.map((_, i) => upscaleNearest(pictureFromPixels(pixels, i), 2)),
  );
  const sheet = gridPicture(pictures, { columns: labels.length, gap: 4 });
  await writeFile(path.join(out, 'self-correction.png'), await sheet.toPng());
  for (const [i, name] of ['clean', 'a wrong group', 'a wrong group, repaired'].entries()) {
    const size = images.data.length / labels.length;
    const shown = rows[i].data.map((value) => pixelToByte(value) / 127.5 - 1);
    const each = labels.map((_, k) =>
      psnr(shown.subarray(k * size, (k + 1) * size), images.data.subarray(k * size, (k + 1) * size)),
    );
    console.log(`${name}: PSNR ${(each.reduce((a, b) => a + b) / each.length).toFixed(2)} dB`);
  }
}

function maskOptions() {
  return {
    patches: 16,
    tokens: 32,
    groupSize,
    causalTokens,
    patchesSeeLatents: false,
    latentsSeePatches: true,
  };
}

/** A mask as squares, runs of a row joined. */
function maskDrawing(mask: Uint8Array): string {
  const { patches, tokens: count } = maskOptions();
  const length = patches + count;
  const cell = 8;
  const margin = 64;
  const side = length * cell;
  const runs = Array.from({ length }, (_, row) => {
    const width = mask.subarray(row * length, (row + 1) * length).lastIndexOf(1) + 1;
    return `<rect x="${margin}" y="${24 + row * cell}" width="${width * cell}" height="${cell - 1}"/>`;
  });
  const text = (x: number, y: number, what: string, more = '') =>
    `<text x="${x}" y="${y}" font-family="sans-serif" font-size="12" fill="#333" ${more}>${what}</text>`;
  return `${[
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${margin + side + 8} ${side + 32}">`,
    `<rect width="100%" height="100%" fill="#fff"/>`,
    `<g fill="#2b4aa0">${runs.join('')}</g>`,
    `<path d="M${margin + patches * cell - 0.5} 24v${side}M${margin} ${23.5 + patches * cell}h${side}" stroke="#c33" fill="none"/>`,
    text(margin, 16, 'patches'),
    text(margin + patches * cell + 4, 16, 'tokens: seen'),
    text(4, 36, 'patches'),
    text(4, 36 + patches * cell, 'tokens'),
    '</svg>',
  ].join('\n')}\n`;
}

/** R(n) of the model in the box, and the sizes that are drawn. */
function curveDrawing(): string {
  const [width, height, left, bottom] = [480, 280, 40, 30];
  const x = (n: number) => left + ((width - left - 10) * (n - 1)) / (tokens - 1);
  const y = (value: number) => height - bottom - ((height - bottom - 14) * value) / imageSize;
  const all = Array.from({ length: tokens }, (_, i) => i + 1);
  const smooth = all.map((n) => `${x(n).toFixed(1)},${y(R(n)).toFixed(1)}`).join(' ');
  const counts = tokenizer.resolutions.tokenCounts;
  const dots = counts.map(
    (n) => `<circle cx="${x(n).toFixed(1)}" cy="${y(tokenizer.resolution(n)).toFixed(1)}" r="3.5"/>`,
  );
  const text = (px: number, py: number, what: string, more = '') =>
    `<text x="${px}" y="${py}" font-family="sans-serif" font-size="12" fill="#333" ${more}>${what}</text>`;
  return `${[
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}">`,
    `<rect width="100%" height="100%" fill="#fff"/>`,
    `<path d="M${left} 14V${height - bottom}H${width - 10}" stroke="#999" fill="none"/>`,
    `<polyline points="${smooth}" fill="none" stroke="#2b4aa0" stroke-width="2"/>`,
    `<g fill="#c33">${dots.join('')}</g>`,
    ...[1, 8, 16, 32, 48, 64].map((n) => text(x(n), height - 14, String(n), 'text-anchor="middle"')),
    ...[1, 2, 3, 4]
      .map((quarter) => (quarter * imageSize) / 4)
      .map((r) => text(left - 6, y(r) + 4, String(r), 'text-anchor="end"')),
    text(left + 8, 24, 'pixels a side: R(n), and (red) what the decoder draws'),
    text(width - 10, height - 2, 'tokens n', 'text-anchor="end"'),
    '</svg>',
  ].join('\n')}\n`;
}

async function write(name: string, text: string): Promise<void> {
  await writeFile(path.join(out, name), text);
}
