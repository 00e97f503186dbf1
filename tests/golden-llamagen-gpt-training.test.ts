import {
  forward,
  groupParameters,
  groupWeights,
  PlaceKind,
  placeMask,
  regionOrder,
} from '@detailflow/blocks';
import { type Backend, readFloat32, Tensor, trace, type Weight } from '@detailflow/core';
import { crossEntropy } from '@detailflow/core/losses';
import { gptConfigOf, gptSettings } from '@detailflow/llamagen';
import { placeKinds, sequenceIds, tokenModelStepGraph } from '@detailflow/train';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { devices, openDevice } from './devices';
import { expectClose, floats, golden, goldenJson } from './golden';
import { expectGradients, familyWeights, integers, withGradients } from './golden-family';
import { runOnce } from './run-once';

const classModels = [
  { set: 'c2i', family: 'llamagen', file: 'llamagen/gpt_c2i/c2i_P.pt', key: 'model' },
  { set: 'gqa', family: 'llamagen', file: 'llamagen/gpt_gqa/consolidated.pth', key: undefined },
  { set: 'par_g4', family: 'par', file: 'par/g4/PAR-P-4x.pt', key: 'model' },
  { set: 'par_g16', family: 'par', file: 'par/g16/PAR-P-16x.pt', key: 'model' },
];

describe.each(devices)('training of GPTs on the %s backend', (device) => {
  let backend: Backend;
  beforeAll(async () => {
    backend = await openDevice(device);
  });
  afterAll(() => backend.close());

  test.each(classModels)(
    'a step of GPT $set: loss and every gradient',
    async ({ set, family, file, key }) => {
      const values = golden(`family/${family}/golden_${set}.safetensors`);
      const summaries = goldenJson(`family/${family}/golden.json`)[set].train.grads;
      const weights = await familyWeights(file, key);
      const config = gptConfigOf(
        weights,
        gptSettings(goldenJson(`family/${file.replace(/[^/]+$/, 'config.json')}`)),
      );
      const { tokens, groupSize } = config;
      const [rows] = values.codes.shape;
      const raster = integers(values.codes);
      const order =
        groupSize > 1 ? regionOrder(tokens, groupSize) : Int32Array.from({ length: tokens }, (_, i) => i);
      const codes = Int32Array.from(raster, (_, i) => raster[i - (i % tokens) + order[i % tokens]]);
      if (groupSize > 1) expect([...codes]).toEqual(integers(values.codes_reordered));
      const kinds = placeKinds(config);
      expect(kinds[0]).toBe(PlaceKind.class);
      const names = groupParameters(config).map(({ name }) => name);
      const graph = trace((g) => {
        const p = groupWeights(g, config);
        const logits = forward(p, config, {
          ids: g.input('ids', 'i32', [rows, tokens]),
          kinds: g.constant(kinds, [tokens], 'i32'),
          positions: g.constant(
            kinds.map((_, place) => place),
            [tokens],
            'i32',
          ),
          visible: g.constant(placeMask(tokens, config), [tokens, tokens], 'bool'),
        });
        const loss = crossEntropy(logits, g.input('targets', 'i32', [rows, tokens]));
        return withGradients({ loss, logits }, p, names);
      });
      const ids = sequenceIds(config, { labels: integers(values.labels), rows: codes });
      const results = await runOnce(backend, graph, weights, {
        ids: new Tensor('int32', ids, [rows, tokens]),
        targets: new Tensor('int32', codes, [rows, tokens]),
      });
      expectClose(results.loss.data as Float32Array, floats(values['train.loss']));
      const first = (results.logits.data as Float32Array).subarray(0, tokens * config.vocabularySize);
      expectClose(first, floats(values['train.logits.row0']));
      expect(Object.keys(summaries).sort()).toEqual(expect.arrayContaining(['norm.weight', 'output.weight']));
      expectGradients(results, summaries);
      for (const name of Object.keys(values).filter((one) => one.startsWith('train.grad.'))) {
        expectClose(results[`grad.${name.slice(11)}`].data as Float32Array, floats(values[name]));
      }
    },
  );

  test.each(classModels)(
    "GPT $set in the training's own graph: loss and every gradient",
    async ({ set, family, file, key }) => {
      const values = golden(`family/${family}/golden_${set}.safetensors`);
      const { grads } = goldenJson(`family/${family}/golden.json`)[set].train;
      const weights = await familyWeights(file, key);
      const settings = gptSettings(goldenJson(`family/${file.replace(/[^/]+$/, 'config.json')}`));
      const config = gptConfigOf(weights, settings);
      const { tokens, groupSize } = config;
      const [rows] = values.codes.shape;
      const codes = Int32Array.from(integers(values[groupSize > 1 ? 'codes_reordered' : 'codes']));
      const executable = await backend.compile(tokenModelStepGraph({ config, microBatch: rows }), new Map());
      const specs = groupParameters(config);
      const buffers = await Promise.all(
        specs.map(async ({ name, shape }) => {
          const known = await readFloat32(weights.get(name) as Weight);
          return [
            [`param.${name}`, new Tensor('float32', known, shape)],
            [`grad.${name}`, new Tensor('float32', new Float32Array(known.length), shape)],
          ] as const;
        }),
      );
      const state = await backend.createState(Object.fromEntries(buffers.flat()));
      const ids = sequenceIds(config, { labels: integers(values.labels), rows: codes });
      const feeds = {
        ids: new Tensor('int32', ids, [rows, tokens]),
        targets: new Tensor('int32', codes, [rows, tokens]),
      };
      const { loss, positionLoss } = await executable.run(feeds, { state });
      expectClose(loss.data as Float32Array, floats(values['train.loss']));
      const mean = (positionLoss.data as Float32Array).reduce((a, b) => a + b, 0) / tokens;
      expect(mean).toBeCloseTo((loss.data as Float32Array)[0], 5);
      const found = await Promise.all(
        specs.map(async ({ name }) => [`grad.${name}`, await state.read(`grad.${name}`)] as const),
      );
      expectGradients(Object.fromEntries(found), grads);
      await state.dispose();
      await executable.dispose();
    },
  );
});
