import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createNodeBackend } from '@detailflow/backend-node';
import { type Backend, exponentialNoise, type LatentTokenizer, Tensor } from '@detailflow/core';
import { exportOnnx, load, type ModelSource, openFamilyModel } from 'detailflow';
import ort from 'onnxruntime-node';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { expectClose, golden } from './golden';

const family = (name: string) => path.join(import.meta.dirname, 'fixtures/golden/family', name);
const gpt = (ar: string): ModelSource => ({ tokenizer: family('llamagen/vq'), ar: family(ar) });

let folder: string;
let backend: Backend;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'export-families-'));
  backend = await createNodeBackend({ threads: 1 });
});
afterAll(async () => {
  await backend.close();
  await rm(folder, { recursive: true });
});

/** Exports a part and runs it with nothing but ONNX Runtime. */
async function exported(source: ModelSource, part: string, settings?: object) {
  const out = path.join(folder, `${part}-${Math.random()}.onnx`);
  const model = await exportOnnx(source, out, { part, settings: settings as never });
  const session = await ort.InferenceSession.create(out, { logSeverityLevel: 3 });
  expect(session.inputNames).toEqual(model.inputs.map(({ name }) => name));
  expect([...session.outputNames].sort()).toEqual(
    expect.arrayContaining(
      model.outputs.filter(({ name }) => !name.startsWith('next.')).map(({ name }) => name),
    ),
  );
  return (feeds: Record<string, Tensor>) => session.run(feeds as never) as Promise<Record<string, Tensor>>;
}

describe.each([
  ['LlamaGen', gpt('llamagen/gpt_c2i')],
  ['PAR, four regions', gpt('par/g4')],
  ['PAR, sixteen regions', gpt('par/g16')],
])('%s', (_, source) => {
  test('the generator draws the tokens and pixels of generate()', async () => {
    const model = await load(source, { backend });
    const { tokens: count, vocabularySize: size } = model.tokenModel!;
    const options = { labels: [0, 2, 1], seed: 4, cfg: 1.7, temperature: 0.9 };
    let tokens: Tensor<'int32'> | undefined;
    for await (const step of model.generate(options)) tokens = await step.tokens();
    const pixels = await model.decode(tokens as Tensor<'int32'>);
    await model.dispose();
    const noise = new Float32Array(3 * count * size);
    for (let i = 0; i < 3 * count; i++) {
      const [image, position] = [Math.floor(i / count), i % count];
      noise.set(exponentialNoise({ seed: 4 + image, position, count: size }), i * size);
    }
    const one = (value: number) => new Tensor('float32', Float32Array.of(value), [1]);
    const run = await exported(source, 'generator');
    const found = await run({
      labels: new Tensor('int32', Int32Array.from(options.labels), [3]),
      noise: new Tensor('float32', noise, [3, count, size]),
      cfg: one(options.cfg),
      temperature: one(options.temperature),
    });
    expect(Array.from(found.tokens.data)).toEqual(Array.from(tokens!.data));
    expectClose(found.pixels.data as Float32Array, pixels.data);
  });
});

const values = golden('family/var/golden_var.safetensors');

describe.each<[string, ModelSource, object | undefined]>([
  ['LlamaGen', gpt('llamagen/gpt_c2i'), undefined],
  ['VAR', family('var'), undefined],
  ['FlexVAR', family('flexvar'), { scales: [1, [2, 3], [4, 6]] }],
])('the tokenizer of %s', (name, source, settings) => {
  test('encoder and decoder', async () => {
    const model = await load(source, { backend, settings: settings as never });
    const [height, width] =
      name === 'FlexVAR' ? [16, 24] : [model.tokenizer.imageSize, model.tokenizer.imageSize];
    const data = Float32Array.from({ length: 2 * 3 * height * width }, (_, i) => Math.sin(i / 7));
    const images = new Tensor('float32', data, [2, 3, height, width]);
    const codes = await model.encode(images);
    const pixels = await model.decode(codes);
    const { scales = [] } = (model.tokenizer as unknown as { config: { scales?: object[] } }).config;
    await model.dispose();
    const encode = await exported(source, 'encoder', settings);
    expect(Array.from((await encode({ images })).codes.data)).toEqual(Array.from(codes.data));
    const decode = await exported(source, 'decoder', settings);
    const last = codes.dims[1] - 24;
    const own =
      name === 'FlexVAR' // its decoder draws one scale, the last
        ? new Tensor(
            'int32',
            Int32Array.from(
              [0, 1].flatMap((b) => [...codes.data.slice(b * codes.dims[1] + last, (b + 1) * codes.dims[1])]),
            ),
            [2, 24],
          )
        : codes;
    const counts = new Tensor('float32', new Float32Array(scales.length).fill(1), [scales.length]);
    const found = await decode({ codes: own, ...(name === 'VAR' && { counts }) });
    expectClose(found.pixels.data as Float32Array, pixels.data);
  });
});

test('a step of VAR: cache in, cache out', async () => {
  const opened = await openFamilyModel(family('var'));
  const { tokens, classes, vocabularySize } = opened.ar!;
  await opened.close();
  const run = await exported(family('var'), 'step');
  const states = Object.fromEntries(
    [0, 1].flatMap((i) =>
      ['k', 'v'].map((kind) => [
        `state.blocks.${i}.${kind}`,
        new Tensor('float32', new Float32Array(3 * tokens * 12), [1, 3, tokens, 12]),
      ]),
    ),
  );
  const ints = (...data: number[]) => new Tensor('int32', Int32Array.from(data), [data.length]);
  const label = Number(values['gen.labels'].data[0]);
  expect(label).toBeLessThan(classes);
  const found = await run({
    ...states,
    ...{ labels: ints(label), firstPlaces: ints(0), places: ints(0), levels: ints(0), offset: ints(0) },
    maps: new Tensor('float32', new Float32Array(8), [1, 1, 8]),
    isFirst: new Tensor('bool', Uint8Array.of(1), [1]),
  });
  expect(found.logits.dims).toEqual([1, 1, vocabularySize]);
  const model = await load(family('var'), { backend });
  const session = await model.tokenModel!.begin([label]);
  expectClose(found.logits.data as Float32Array, (await session.predict(undefined)).data);
  await session.dispose();
  await model.dispose();
  const cache = found['next.blocks.0.k'];
  expect(cache.dims).toEqual([1, 3, tokens, 12]);
  expect((cache.data as Float32Array).some((value) => value !== 0)).toBe(true);
});

test.each(['softvq', 'kl', 'ae'])('latents of %s', async (kind) => {
  const source = family(`softvq/${kind}`);
  const opened = await openFamilyModel(source);
  const tokenizer = opened.createLatentTokenizer?.({ backend }) as LatentTokenizer;
  const side = tokenizer.imageSize;
  const data = Float32Array.from({ length: 3 * side * side }, (_, i) => Math.sin(i / 7));
  const images = new Tensor('float32', data, [1, 3, side, side]);
  const latents = await tokenizer.encodeLatents(images);
  const pixels = await tokenizer.decodeLatents(latents);
  await tokenizer.dispose();
  await opened.close();
  const found = await (await exported(source, 'encoder'))({ images });
  expectClose(found.latents.data as Float32Array, latents.data);
  const drawn = await (await exported(source, 'decoder'))({ latents });
  expectClose(drawn.pixels.data as Float32Array, pixels.data);
});
