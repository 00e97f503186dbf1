// A sampler of one's own, from the single packages: no facade, no @detailflow/sampler. It draws by "min-p": a token is
// possible if its probability is at least a tenth of the most likely one's.
// Run from the repository root: npx tsx examples/custom-pipeline.ts [FOLDER]
import { mkdir, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { createTokenModel, parseTokenModelConfig } from '@detailflow/ar-model';
import { createNodeBackend } from '@detailflow/backend-node';
import { readBundle } from '@detailflow/checkpoint';
import { openFolder } from '@detailflow/checkpoint/node';
import { exponentialNoise, Picture, pictureFromPixels, Tensor } from '@detailflow/core';
import { modelUrl } from '@detailflow/model-fashion-32';
import { createTokenizer, parseTokenizerConfig } from '@detailflow/tokenizer';

const out = process.argv[2] ?? 'out/custom-pipeline';
const labels = [0, 1, 7, 9]; // T-shirt, trouser, sneaker, ankle boot
const guidance = 2.5;
const minP = 0.1;

// The two halves of the model, each with its own configuration and weights, on one backend.
const bundle = await readBundle(await openFolder(fileURLToPath(modelUrl)));
if (!bundle.card.ar || !bundle.ar) throw new Error('this model has no AR part');
const backend = await createNodeBackend({ device: 'cpu' });
const tokenizer = createTokenizer({
  config: parseTokenizerConfig(bundle.card.tokenizer.config),
  weights: bundle.tokenizer,
  backend,
});
const model = createTokenModel({
  config: parseTokenModelConfig(bundle.card.ar.config),
  weights: bundle.ar,
  backend,
});

// One sequence with the class and one without for each picture: guidance needs both.
const session = await model.begin([...labels, ...labels.map(() => model.unconditional())]);
const codes = new Int32Array(labels.length * model.tokens);
let chosen: Int32Array | undefined;
for (let position = 0; position < model.tokens; ) {
  const logits = await session.predict(chosen); // [2 * pictures, count, codes]
  const [, count, size] = logits.dims;
  chosen = new Int32Array(2 * labels.length * count);
  for (let image = 0; image < labels.length; image++) {
    for (let k = 0; k < count; k++) {
      const row = (sequence: number) =>
        logits.data.subarray((sequence * count + k) * size, (sequence * count + k + 1) * size);
      const token = choose(row(image), row(labels.length + image), {
        seed: 100 + image,
        position: position + k,
      });
      codes[image * model.tokens + position + k] = token;
      chosen[image * count + k] = token;
      chosen[(labels.length + image) * count + k] = token;
    }
  }
  position += count;
}
await session.dispose();

/** Guided logits -> one token, by min-p. */
function choose(
  withClass: Float32Array,
  without: Float32Array,
  { seed, position }: { seed: number; position: number },
): number {
  const logits = withClass.map((value, i) => without[i] + (value - without[i]) * guidance);
  const largest = logits.reduce((a, b) => Math.max(a, b));
  const noise = exponentialNoise({ seed, position, count: logits.length });
  let best = -1;
  let score = 0;
  for (let i = 0; i < logits.length; i++) {
    const relative = Math.exp(logits[i] - largest);
    if (relative < minP || relative / noise[i] <= score) continue;
    score = relative / noise[i];
    best = i;
  }
  return best;
}

const pixels = await tokenizer.decode(new Tensor('int32', codes, [labels.length, model.tokens]));
await mkdir(out, { recursive: true });
for (const [i, label] of labels.entries()) {
  const file = `${out}/class-${label}.png`;
  await writeFile(file, await enlarge(pictureFromPixels(pixels, i), 8).toPng());
  console.log(`${file}: tokens ${codes.subarray(i * model.tokens, i * model.tokens + 6).join(' ')} ...`);
}
await backend.close();
await bundle.close();

/** Every pixel as a square of `factor` x `factor` pixels. */
function enlarge({ data, width, height }: Picture, factor: number): Picture {
  const large = new Uint8ClampedArray(data.length * factor * factor);
  for (let y = 0; y < height * factor; y++) {
    for (let x = 0; x < width * factor; x++) {
      const from = 4 * (Math.floor(y / factor) * width + Math.floor(x / factor));
      large.set(data.subarray(from, from + 4), 4 * (y * width * factor + x));
    }
  }
  return new Picture(large, width * factor, height * factor);
}
