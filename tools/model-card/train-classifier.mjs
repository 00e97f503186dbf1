// Trains the classifier that judges generated pictures, on real ones.
//   node tools/model-card/train-classifier.mjs DATA OUT.safetensors [--steps 2000]
// DATA is a folder of IDX files; images are padded to 32 pixels. Prints the accuracy on the test images.
import { writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { createNodeBackend } from '@detailflow/backend-node';
import { mul, RandomStream, select, Tensor, trace } from '@detailflow/core';
import { gradients } from '@detailflow/core/gradients';
import { crossEntropy } from '@detailflow/core/losses';
import { encodeSafetensors } from '@detailflow/core/safetensors-writer';
import { black, cutImage, EpochOrder, flipImage, imageValues, padImage } from '@detailflow/data';
import { openIdx } from '@detailflow/data/node';
import { classifier, classifierParameters } from '@detailflow/features';
import {
  accumulateGradients,
  Buffer,
  initialClassifier,
  Learner,
  sharedParameters,
  tokenizerSchedule,
} from '@detailflow/train';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { steps: { type: 'string', default: '2000' }, threads: { type: 'string', default: '2' } },
});
const [data, out] = positionals;
if (!data || !out) {
  console.error(
    'usage: node tools/model-card/train-classifier.mjs DATA OUT.safetensors [--steps N] [--threads N]',
  );
  process.exit(2);
}
const steps = Number(values.steps);
const [seed, batch, size, keep] = [7, 64, 32, 0.7];
const config = { imageSize: size, classes: 10, widths: [20, 40, 80], features: 128 };
const specs = classifierParameters(config);
const train = await openIdx(data, { split: 'train' });
const test = await openIdx(data, { split: 'test' });
const backend = await createNodeBackend({ threads: Number(values.threads) });
const optimiser = { betas: [0.9, 0.99], epsilon: 1e-8, clip: 1, weightDecay: 0.02 };
const learner = await Learner.create({
  backends: [backend],
  specs,
  optimiser,
  parameters: initialClassifier({ specs, seed }),
});
const shape = [batch, 3, size, size];

const stepGraph = await learner.compile(
  trace((g) => {
    const p = sharedParameters(g, specs);
    const kept = g.input('kept', 'bool', [batch, config.features]);
    const { logits } = classifier(p, config, g.input('images', 'f32', shape), (x) =>
      select(kept, mul(x, 1 / keep), 0),
    );
    const loss = crossEntropy(logits, g.input('labels', 'i32', [batch]));
    accumulateGradients(
      g,
      specs,
      gradients(
        loss,
        specs.map(({ name }) => p(name)),
      ),
    );
    return { loss };
  }),
);
const testGraph = await learner.compile(
  trace((g) => {
    const { logits } = classifier(sharedParameters(g, specs), config, g.input('images', 'f32', shape));
    return { logits };
  }),
);

/** Padded to 36 pixels, cut at random, mirrored as often as not. */
function augmented(image, random) {
  const cut = cutImage(padImage(image, 36, black), random.integer(5), random.integer(5), size);
  return random.uniform() < 0.5 ? flipImage(cut) : cut;
}

const order = new EpochOrder({ length: train.labels.length, seed });
const schedule = { steps, warmup: 100, initialFactor: 0.1, finalFactor: 0.01 };
const plane = 3 * size * size;
const started = performance.now();
for (let step = 0; step < steps; step++) {
  const random = new RandomStream({ seed, purpose: 300, position: step });
  const images = new Float32Array(batch * plane);
  const labels = new Int32Array(batch);
  for (const [i, index] of order.batch(step, batch).entries()) {
    imageValues(
      augmented(await train.image(index), random),
      size,
      images.subarray(i * plane, (i + 1) * plane),
    );
    labels[i] = train.labels[index];
  }
  const kept = Uint8Array.from({ length: batch * config.features }, () => Number(random.uniform() < keep));
  const [{ loss }] = await learner.accumulate(stepGraph, [
    {
      images: new Tensor('float32', images, shape),
      labels: new Tensor('int32', labels, [batch]),
      kept: new Tensor('bool', kept, [batch, config.features]),
    },
  ]);
  await learner.update({ step, learningRate: 2e-3 * tokenizerSchedule(step, schedule) });
  if ((step + 1) % 100 === 0) {
    const rate = ((step + 1) * batch) / ((performance.now() - started) / 1000);
    console.log(`step ${step + 1}/${steps}  loss ${loss.data[0].toFixed(4)}  ${rate.toFixed(0)} images/s`);
  }
}

let right = 0;
const total = test.labels.length;
for (let first = 0; first < total; first += batch) {
  const images = new Float32Array(batch * plane);
  for (let i = 0; i < Math.min(batch, total - first); i++) {
    imageValues(
      padImage(await test.image(first + i), size, black),
      size,
      images.subarray(i * plane, (i + 1) * plane),
    );
  }
  const { logits } = await learner.run(testGraph, { images: new Tensor('float32', images, shape) });
  for (let i = 0; i < Math.min(batch, total - first); i++) {
    const row = Array.from(logits.data.subarray(i * 10, (i + 1) * 10));
    right += Number(row.indexOf(Math.max(...row)) === test.labels[first + i]);
  }
}
const accuracy = right / total;
console.log(`accuracy on ${total} test images: ${(100 * accuracy).toFixed(2)} %`);

const parameters = await learner.read(Buffer.parameter);
const entries = specs.map(({ name, shape: dims }) => ({ name, dtype: 'f32', shape: dims }));
const plan = encodeSafetensors(entries, { config: JSON.stringify(config), accuracy: `${accuracy}` });
const bytes = plan.tensors.map(({ entry: { name } }) => {
  const { buffer, byteOffset, byteLength } = parameters.get(name);
  return new Uint8Array(buffer, byteOffset, byteLength);
});
await writeFile(out, globalThis.Buffer.concat([plan.header, ...bytes]));
await learner.dispose();
await backend.close();
