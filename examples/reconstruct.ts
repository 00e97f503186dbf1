// Turns a picture into tokens, and draws it again from ever more of them.
// Run from the repository root: npx tsx examples/reconstruct.ts [FOLDER]
import { mkdir, writeFile } from 'node:fs/promises';
import { modelUrl } from '@detailflow/model-fashion-32';
import { load, type Picture, pictureFromPixels, stripPicture, Tensor, upscaleNearest } from 'detailflow';

const out = process.argv[2] ?? 'out/reconstruct';
await mkdir(out, { recursive: true });
const model = await load(modelUrl);

// A pair of trousers in 32 x 32 pixels: grey from -1 (black) to 1 (white), three equal channels.
const side = 32;
const data = new Float32Array(3 * side * side);
for (let y = 0; y < side; y++) {
  for (let x = 0; x < side; x++) {
    const fromMiddle = Math.abs(x - 15.5);
    const outer = 6 + (y - 3) * 0.05;
    const gap = y < 9 ? 0 : 0.8 + (y - 8) * 0.05;
    const inside = y >= 3 && y < 29 && fromMiddle > gap && fromMiddle < outer;
    const shade = 0.55 - (0.5 * Math.abs(fromMiddle - (gap + outer) / 2)) / outer;
    for (let c = 0; c < 3; c++) data[(c * side + y) * side + x] = inside ? shade : -1;
  }
}
const original = new Tensor('float32', data, [1, 3, side, side]);

const pictures: Picture[] = [];
for await (const { tokens, resolution, pixels, psnr } of model.reconstruct(original)) {
  pictures.push(pictureFromPixels(pixels));
  const size = `${resolution} x ${resolution} pixels`;
  console.log(`${tokens} tokens: ${size}, ${psnr[0].toFixed(1)} dB against the original at that size`);
}
pictures.push(upscaleNearest(pictureFromPixels(original), 4));
await writeFile(`${out}/strip.png`, await stripPicture(pictures, { gap: 6 }).toPng());
console.log(`${out}/strip.png: coarse to fine, the original last`);
await model.dispose();
