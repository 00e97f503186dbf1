// What `npm run demo` runs: pictures of every class, and how some of them grow, into out/demo/.
import { mkdir, writeFile } from 'node:fs/promises';
import { gridPicture, load, pictureFromPixels, stripPicture, upscaleNearest } from 'detailflow';

const out = process.argv[2] ?? 'out/demo';
const names = 'T-shirt, trouser, pullover, dress, coat, sandal, shirt, sneaker, bag, ankle boot'.split(', ');
const samples = 8;
const scale = 4;
const started = performance.now();
await mkdir(out, { recursive: true });
const model = await load('models/fashion-ref');

// One row for each class; all 80 pictures are drawn at once.
const labels = names.flatMap((_, label) => Array(samples).fill(label));
let pixels;
for await (const step of model.generate({ labels, seed: 1, cfg: 2 })) {
  if (step.count === step.total) pixels = await step.pixels();
}
const pictures = labels.map((_, i) => upscaleNearest(pictureFromPixels(pixels, i), scale));
await save('classes.png', gridPicture(pictures, { columns: samples, gap: 4 }));

// One row for each of a few classes: every preview, from 1 token to all 32.
const shown = [0, 1, 7, 8, 9];
const growth = shown.map(() => []);
for await (const step of model.generate({ labels: shown, seed: 40, cfg: 2 })) {
  const previews = await step.pixels();
  for (const [i, row] of growth.entries()) row.push(pictureFromPixels(previews, i));
}
const strips = growth.map((row) =>
  stripPicture([...row.slice(0, -1), upscaleNearest(row.at(-1), scale)], { gap: 4 }),
);
await save('coarse-to-fine.png', gridPicture(strips, { columns: 1, gap: 0 }));
await model.dispose();

console.log(`${out}/classes.png         ${samples} pictures in each row: ${names.join(', ')}`);
console.log(
  `${out}/coarse-to-fine.png  ${shown.map((label) => names[label]).join(', ')} from 1, 2, 3, 4, 8, ... 32 tokens`,
);
console.log(`drawn in ${((performance.now() - started) / 1000).toFixed(1)} s on the CPU`);

async function save(name, picture) {
  await writeFile(`${out}/${name}`, await picture.toPng());
}
