// What `npm run demo` runs: pictures of every class, and how some of them grow, into out/demo/.
import { mkdir, writeFile } from 'node:fs/promises';
import { modelUrl } from '@detailflow/model-emoji-64';
import { gridPicture, load, type Picture, pictureFromPixels, stripPicture, upscaleNearest } from 'detailflow';

const out = process.argv[2] ?? 'out/demo';
const samples = 8;
const scale = 2;
await mkdir(out, { recursive: true });
const model = await load(modelUrl);
const { card } = model;
const classNames = card?.classNames ?? [];
const cfg = card?.recipe?.cfg;
const { tokens } = model.tokenizer;
console.log(`${card?.name}: ${card?.description}`);

// One column for each class; all pictures are drawn at once.
console.log(`drawing ${samples} pictures of each of ${classNames.length} classes, CFG ${cfg} ...`);
const labels = Array.from({ length: samples * classNames.length }, (_, i) => i % classNames.length);
const started = performance.now();
const pictures: Picture[] = [];
for await (const step of model.generate({ labels, seed: 1, cfg })) {
  if (step.count < step.total) continue;
  const pixels = await step.pixels();
  for (const i of labels.keys()) pictures.push(pictureFromPixels(pixels, i));
}
const seconds = (performance.now() - started) / 1000;
await save('classes.png', gridPicture(pictures, { columns: classNames.length, gap: 4 }));

// One row for each of a few classes: previews of 1, 2, 4, ... tokens, and the picture.
const shown = ['happy-face', 'heart', 'clock', 'flag', 'fruit'];
const counts = Array.from({ length: 1 + Math.log2(tokens) }, (_, i) => 2 ** i);
console.log(`drawing ${shown.length} more, each after ${counts.join(', ')} tokens ...`);
const growth: Picture[][] = shown.map(() => []);
for await (const step of model.generate({ labels: shown, seed: 80, cfg })) {
  if (!counts.includes(step.count)) continue;
  const previews = await step.pixels();
  for (const [i, row] of growth.entries()) row.push(pictureFromPixels(previews, i));
}
const strips = growth.map((row) => {
  const last = upscaleNearest(row[row.length - 1], scale);
  return stripPicture([...row.slice(0, -1), last], { gap: 4 });
});
await save('coarse-to-fine.png', gridPicture(strips, { columns: 1, gap: 0 }));
await model.dispose();

console.log(`${out}/classes.png         a column for each class: ${classNames.join(', ')}`);
console.log(`${out}/coarse-to-fine.png  a row for each picture, as it grows`);
console.log(`the ${labels.length} pictures took ${seconds.toFixed(1)} s on the CPU`);

async function save(name: string, picture: Picture): Promise<void> {
  await writeFile(`${out}/${name}`, await picture.toPng());
}
