import { createGroupTokenModel } from '@detailflow/blocks';
import { type Backend, type Condition, scheduleSteps, Tensor, type TokenModel } from '@detailflow/core';
import {
  createTextTokenModel,
  gptConfigOf,
  gptSettings,
  intervalGuidance,
  textGptConfigOf,
} from '@detailflow/llamagen';
import { filterLogits, guide, softmax } from '@detailflow/sampler';
import { createScaleTokenModel } from '@detailflow/var';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { devices, openDevice } from './devices';
import { expectClose, floats, type GoldenTensor, golden, goldenJson } from './golden';
import { familyWeights, flexVarParts, integers, varParts } from './golden-family';

/** Logits [rows, n, V] of the first n places of sequences whose tokens are known, by the cache. */
async function logitsAlong(
  model: TokenModel,
  conditions: readonly Condition[],
  tokens: readonly (readonly number[])[],
  places: number,
): Promise<Float32Array[]> {
  const size = model.vocabularySize;
  const out = conditions.map(() => new Float32Array(places * size));
  const session = await model.begin(conditions);
  let chosen: Int32Array | undefined;
  for (const { position, count } of scheduleSteps(model.schedule)) {
    if (position >= places) break;
    const { data } = await session.predict(chosen);
    for (const [row, all] of out.entries()) {
      const kept = Math.min(count, places - position);
      all.set(data.subarray(row * count * size, (row * count + kept) * size), position * size);
    }
    chosen = Int32Array.from(tokens.flatMap((row) => row.slice(position, position + count)));
  }
  await session.dispose();
  return out;
}

const rowsOf = ({ shape, data }: GoldenTensor): number[][] => {
  const width = data.length / shape[0];
  return Array.from({ length: shape[0] }, (_, i) => Array.from(data).slice(i * width, (i + 1) * width));
};

/** Where the largest number stands. */
const largest = (row: readonly number[]): number => row.indexOf(Math.max(...row));

/** Guided logits of one sequence, from those with and without condition. */
function guided(
  model: TokenModel,
  [own, other]: Float32Array[],
  scaleOf: (index: number) => number,
): Float32Array {
  const size = model.vocabularySize;
  const out = new Float32Array(own.length);
  for (const { index, position, count } of scheduleSteps(model.schedule)) {
    const [from, to] = [position * size, Math.min((position + count) * size, own.length)];
    if (from >= own.length) break;
    guide(own.subarray(from, to), other.subarray(from, to), scaleOf(index), out.subarray(from, to));
  }
  return out;
}

/** Probabilities after the filters, place by place. */
function probabilities(
  logits: Float32Array,
  size: number,
  choice: Parameters<typeof filterLogits>[1],
): number[] {
  return Array.from({ length: logits.length / size }, (_, i) =>
    Array.from(softmax(filterLogits(logits.subarray(i * size, (i + 1) * size), choice))),
  ).flat();
}

/** What a GPT's first tokens are drawn from: after guidance, which may end, temperature and filters. */
function drawnFrom(
  model: TokenModel,
  logits: Float32Array[],
  { sampled, causalTokens }: { readonly sampled: Record<string, number>; readonly causalTokens: number },
): number[] {
  const guidance = intervalGuidance({ causalTokens }, sampled.cfg_interval);
  const steps = [...scheduleSteps(model.schedule)];
  const scaleOf = (index: number) => guidance(steps[index], sampled.cfg_scale);
  const choice = { temperature: sampled.temperature, topK: sampled.top_k, topP: sampled.top_p };
  return probabilities(guided(model, logits, scaleOf), model.vocabularySize, choice);
}

test('top-k and top-p as VAR has them', () => {
  const ops = golden('family/var/ops.safetensors');
  const rows = rowsOf(ops['filter.in']);
  const names = Object.keys(ops).filter((name) => /^filter\.k/.test(name));
  expect(names.length).toBeGreaterThan(5);
  for (const name of names) {
    const [, k, p, which] = /^filter\.k(\d+)\.p([\d.]+)\.rows(\d+)$/.exec(name) as RegExpExecArray;
    const choice = { temperature: 1, topK: Number(k), topP: Number(p) || 1 };
    const kept = [...which].flatMap((row) => [...filterLogits(Float32Array.from(rows[Number(row)]), choice)]);
    expectClose(kept, floats(ops[name]), 0);
  }
});

describe.each(devices)('logits step by step on the %s backend', (device) => {
  let backend: Backend;
  beforeAll(async () => {
    backend = await openDevice(device);
  });
  afterAll(() => backend.close());

  test('VAR: both halves, guided, and the probabilities that were drawn from', async () => {
    const { tokenizerConfig, vae, config, weights } = await varParts();
    const tokenizer = { config: tokenizerConfig, weights: vae };
    const model = createScaleTokenModel({ config, weights, backend, tokenizer });
    const values = golden('family/var/golden_var.safetensors');
    const { greedy_cfg: cfg, sampled } = goldenJson('family/var/golden.json').config;
    const scaleOf = (scale: number) => (index: number) => 1 + (scale * index) / (model.schedule.length - 1);
    const both = [integers(values['gen.labels'])[0], model.unconditional()];
    const [greedy] = rowsOf(values['gen.greedy.tokens']);
    const logits = await logitsAlong(model, both, [greedy, greedy], model.tokens);
    expectClose([...logits[0], ...logits[1]], floats(values['gen.greedy.logits.row0']));
    expectClose(guided(model, logits, scaleOf(cfg)), floats(values['gen.greedy.guided.row0']));
    const [drawn] = rowsOf(values['gen.sampled.tokens']);
    const own = guided(
      model,
      await logitsAlong(model, both, [drawn, drawn], model.tokens),
      scaleOf(sampled.cfg),
    );
    const choice = { temperature: 1, topK: sampled.top_k, topP: sampled.top_p };
    const found = probabilities(own, model.vocabularySize, choice);
    expectClose(found, floats(values['gen.sampled.probs.row0']));
  });

  test('FlexVAR: both halves, and guided as LlamaGen does', async () => {
    const values = golden('family/flexvar/golden_var.safetensors');
    const { runs } = goldenJson('family/flexvar/golden.json').config;
    const label = integers(values['gen.labels'])[0];
    const along = async (list: readonly number[], tokens: GoldenTensor) => {
      const { tokenizerConfig, vae, config, weights } = await flexVarParts(list);
      const tokenizer = { config: tokenizerConfig, weights: vae };
      const model = createScaleTokenModel({ config, weights, backend, tokenizer });
      const [row] = rowsOf(tokens);
      return {
        model,
        logits: await logitsAlong(model, [label, model.unconditional()], [row, row], model.tokens),
      };
    };
    const { logits } = await along(runs.greedy.pn, values['gen.greedy.tokens']);
    expectClose([...logits[0], ...logits[1]], floats(values['gen.greedy.logits.row0']));
    const other = await along(runs.llamagen.pn, values['gen.llamagen.tokens']);
    const found = guided(other.model, other.logits, () => runs.llamagen.cfg);
    expectClose(found, floats(values['gen.llamagen.guided.row0']));
  });

  test.each([
    { set: 'c2i', family: 'llamagen', file: 'llamagen/gpt_c2i/c2i_P.pt', cfg: 2 },
    { set: 'par_g4', family: 'par', file: 'par/g4/PAR-P-4x.pt', cfg: 1.5 },
    { set: 'par_g16', family: 'par', file: 'par/g16/PAR-P-16x.pt', cfg: 1.5 },
  ])('GPT $set: after known codes, and guided', async ({ set, family, file, cfg }) => {
    const weights = await familyWeights(file, 'model');
    const known = gptSettings(goldenJson(`family/${file.replace(/[^/]+$/, 'config.json')}`));
    const model = createGroupTokenModel({ config: gptConfigOf(weights, known), weights, backend });
    const values = golden(`family/${family}/golden_${set}.safetensors`);
    const size = model.vocabularySize;
    const codes = rowsOf(values.codes_reordered ?? values.codes);
    const logits = await logitsAlong(model, integers(values.labels), codes, model.tokens);
    for (const prefix of goldenJson(`family/${family}/golden.json`)[set].sampling.prefixes) {
      const last = values[`logits.prefix${prefix}.last`];
      const count = last.shape.length === 3 ? last.shape[1] : 1;
      const found = logits.map((row) => [...row.subarray(prefix * size, (prefix + count) * size)]);
      expectClose(found.flat(), floats(last));
      const best = integers(values[`logits.prefix${prefix}.argmax`]);
      expect(
        rowsOf({ ...last, data: Float32Array.from(found.flat()), shape: [best.length] }).map(largest),
      ).toEqual(best);
    }
    const both = [integers(values.gen_labels)[0], model.unconditional()];
    const [greedy] = rowsOf(values['gen.greedy.tokens']);
    const own = guided(model, await logitsAlong(model, both, [greedy, greedy], 32), () => cfg);
    expectClose(own, floats(values['gen.greedy.guided_logits.row0.0to32']));
    const [drawn] = rowsOf(values['gen.sampled.tokens']);
    const found = await logitsAlong(model, both, [drawn, drawn], 32);
    const { sampled } = goldenJson(`family/${family}/golden.json`)[set].sampling;
    expectClose(
      drawnFrom(model, found, { sampled, causalTokens: model.config.causalTokens }),
      floats(values['gen.sampled.probs.row0.0to32']),
    );
  });

  test('text-conditional GPT: guided', async () => {
    const values = golden('family/llamagen/golden_t2i.safetensors');
    const weights = await familyWeights('llamagen/gpt_t2i/t2i_P.pt', 'module');
    const settings = gptSettings(goldenJson('family/llamagen/gpt_t2i/config.json'));
    const model = createTextTokenModel({ config: textGptConfigOf(weights, settings), weights, backend });
    const text = {
      features: new Tensor('float32', floats(values.cond).slice(0, 6 * 20), [6, 20]),
      mask: new Tensor('bool', Uint8Array.from(integers(values.cond_mask).slice(0, 6)), [6]),
    };
    const [greedy] = rowsOf(values['gen.greedy.tokens']);
    const both = await logitsAlong(model, [text, model.unconditional(text)], [greedy, greedy], model.tokens);
    expectClose(
      guided(model, both, () => 3),
      floats(values['gen.greedy.guided_logits.row0.0to32']),
    );
    const [drawn] = rowsOf(values['gen.sampled.tokens']);
    const found = await logitsAlong(model, [text, model.unconditional(text)], [drawn, drawn], model.tokens);
    const { sampled } = goldenJson('family/llamagen/golden.json').t2i.sampling;
    expectClose(
      drawnFrom(model, found, { sampled, causalTokens: model.tokens }),
      floats(values['gen.sampled.probs.row0.0to32']),
    );
  });
});
