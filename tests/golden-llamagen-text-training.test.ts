import { parameterAccess } from '@detailflow/blocks';
import { type Backend, slice, Tensor, trace } from '@detailflow/core';
import {
  textEmbedding,
  textForward,
  textGptLoss,
  textGptParameters,
  trainedTextParameters,
} from '@detailflow/llamagen';
import { afterAll, beforeAll, describe, test } from 'vitest';
import { devices, openDevice } from './devices';
import { expectClose, floats, golden, goldenJson } from './golden';
import { expectGradients, floatTensor, integers, integerTensor, withGradients } from './golden-family';
import { textParts } from './golden-text-gpt';
import { runOnce } from './run-once';

const json = goldenJson('family/llamagen/golden.json');
const t2i = golden('family/llamagen/golden_t2i.safetensors');

describe.each(devices)('training of the text-conditional GPT on the %s backend', (device) => {
  let backend: Backend;
  beforeAll(async () => {
    backend = await openDevice(device);
  });
  afterAll(() => backend.close());

  test('a step of the text-conditional GPT: loss and every gradient', async () => {
    const { weights, config } = await textParts();
    const rows = 3;
    // A row without picture or text has a plain causal mask; "no text" keeps the mask of its text.
    const mask = integers(t2i.cond_mask).map((kept, i) =>
      integers(t2i['train.valid'])[Math.floor(i / 6)] ? kept : 1,
    );
    const graph = trace((g) => {
      const p = parameterAccess(g, textGptParameters(config));
      const inputs = {
        features: g.input('features', 'f32', [rows, 6, 20]),
        mask: g.input('mask', 'bool', [rows, 6]),
        codes: g.input('codes', 'i32', [rows, 16]),
        valid: g.input('valid', 'f32', [rows]),
      };
      return withGradients(textGptLoss(p, config, inputs), p, trainedTextParameters(config));
    });
    const results = await runOnce(backend, graph, weights, {
      features: floatTensor(t2i['train.cond']),
      mask: new Tensor('bool', Uint8Array.from(mask), [rows, 6]),
      codes: integerTensor(t2i.codes),
      valid: new Tensor('float32', Float32Array.from(integers(t2i['train.valid'])), [rows]),
    });
    expectClose(results.loss.data as Float32Array, floats(t2i['train.loss']));
    expectClose((results.logits.data as Float32Array).subarray(0, 16 * 96), floats(t2i['train.logits.row0']));
    expectGradients(results, json.t2i.train.grads);
    for (const name of Object.keys(t2i).filter((one) => one.startsWith('train.grad.'))) {
      expectClose(results[`grad.${name.slice(11)}`].data as Float32Array, floats(t2i[name]));
    }
  });

  test('the embedded text and the logits of all its places', async () => {
    const { weights, config } = await textParts();
    const graph = trace((g) => {
      const p = parameterAccess(g, textGptParameters(config));
      const features = g.input('features', 'f32', [3, 6, 20]);
      const mask = g.input('mask', 'bool', [3, 6]);
      const codes = g.input('codes', 'i32', [3, 16]);
      const logits = textForward(p, config, { features, mask, codes: slice(codes, 1, 0, 15) });
      return { logits, embedded: textEmbedding(p, features) };
    });
    const results = await runOnce(backend, graph, weights, {
      features: floatTensor(t2i.cond),
      mask: new Tensor('bool', Uint8Array.from(integers(t2i.cond_mask)), [3, 6]),
      codes: integerTensor(t2i.codes),
    });
    expectClose((results.embedded.data as Float32Array).subarray(0, 6 * 32), floats(t2i['cap_proj.row0']));
    expectClose(
      (results.logits.data as Float32Array).subarray(0, 6 * 96),
      floats(t2i['logits.prefill.row0']),
    );
  });
});
