// Gives the tokenizer of a bundle a decoder of patches half as wide and of more layers that begins as the one it has: new layers
// change nothing at first, the four patches in the place of one begin alike but for what tells them apart. Codes stay, so an AR model does.
//   node tools/emoji/finer-decoder.mjs BUNDLE OUT [--layers 5] [--seed 1]
// OUT is a bundle to go on training with (--init OUT, tokenizer.finetuneDecoder).
import { parseArgs } from 'node:util';
import { writeBundle } from '@detailflow/checkpoint/node';
import { RandomStream, readFloat32, weightFromArray } from '@detailflow/core';
import { openModel } from 'detailflow';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { layers: { type: 'string', default: '5' }, seed: { type: 'string', default: '1' } },
});
const [bundle, out] = positionals;
if (!bundle || !out) {
  console.error('usage: node tools/emoji/finer-decoder.mjs BUNDLE OUT [--layers 5] [--seed 1]');
  process.exit(2);
}
/** Size of what tells the patches apart, of that of the positions. */
const DISTINCTION = 0.3;
const TABLE = 'decoder.visual_model.embeddings.position_embedding.weight';
const PIXELS = 'decoder.to_pixel.model';

const model = await openModel(bundle);
const { config, weights } = model.tokenizer;
const { width, layers: given, patchSize, positionGrid } = config.decoder;
const layers = Math.max(given, Number(values.layers));
const found = new Map();
for (const [name, weight] of weights) found.set(name, [weight.shape, await readFloat32(weight)]);
await model.close();

found.set(TABLE, [[4 * positionGrid ** 2, width], finerPositions(found.get(TABLE)[1])]);
const [rows, finer] = [3 * patchSize ** 2, (3 * patchSize ** 2) / 4];
found.set(`${PIXELS}.weight`, [[finer, width], averaged(found.get(`${PIXELS}.weight`)[1], width)]);
found.set(`${PIXELS}.bias`, [[finer], averaged(found.get(`${PIXELS}.bias`)[1], 1)]);
const last = `decoder.visual_model.encoder.layers.${given - 1}.`;
for (const [name, [shape, numbers]] of [...found].filter(([one]) => one.startsWith(last))) {
  const isAdded = /(out_proj|fc2)\.\w+$/.test(name);
  for (let layer = given; layer < layers; layer++) {
    const copy = isAdded ? new Float32Array(numbers.length) : numbers;
    found.set(name.replace(last, `decoder.visual_model.encoder.layers.${layer}.`), [shape, copy]);
  }
}
const decoder = { ...config.decoder, layers, patchSize: patchSize / 2, positionGrid: 2 * positionGrid };
await writeBundle(out, {
  ...{ name: 'finer decoder', license: model.card?.license ?? 'unknown' },
  ...(model.card?.data && { data: model.card.data }),
  tokenizer: {
    config: { ...config, decoder },
    weights: new Map(
      [...found].map(([name, [shape, numbers]]) => [name, weightFromArray(name, shape, numbers)]),
    ),
  },
});
console.log(
  `${out}: ${layers} layers, patches of ${patchSize / 2} pixels, of ${rows} and now ${finer} numbers`,
);

/** Each position four times, with what tells the four apart: [(2 G)^2, E] of [G^2, E]. */
function finerPositions(table) {
  const random = new RandomStream({ seed: Number(values.seed), purpose: 1, position: 0 });
  const size = DISTINCTION * Math.sqrt(table.reduce((sum, x) => sum + x * x, 0) / table.length);
  const apart = Float32Array.from(
    { length: 4 * width },
    () => size * Math.sqrt(12) * (random.uniform() - 0.5),
  );
  const side = 2 * positionGrid;
  return Float32Array.from({ length: side ** 2 * width }, (_, i) => {
    const [place, channel] = [Math.floor(i / width), i % width];
    const [y, x] = [Math.floor(place / side), place % side];
    const from = positionGrid * (y >> 1) + (x >> 1);
    return table[from * width + channel] + apart[(2 * (y & 1) + (x & 1)) * width + channel];
  });
}

/** Rows for the pixels of a patch, [p, p, 3, columns]: the mean of the four that lie in the same place of a quarter. */
function averaged(matrix, columns) {
  const half = patchSize / 2;
  const mean = new Float32Array(matrix.length / 4);
  for (let y = 0; y < patchSize; y++) {
    for (let x = 0; x < patchSize; x++) {
      for (let i = 0; i < 3 * columns; i++) {
        mean[((y % half) * half + (x % half)) * 3 * columns + i] +=
          matrix[(y * patchSize + x) * 3 * columns + i] / 4;
      }
    }
  }
  return mean;
}
