import {
  createTokenModel,
  forwardGraph,
  type GroupTokenModel,
  PlaceKind,
  placeMask,
} from '@detailflow/ar-model';
import { type Backend, type Executable, type Guidance, stepAt, Tensor } from '@detailflow/core';
import { constantGuidance, filterLogits, guide, sampleTokens, softmax } from '@detailflow/sampler';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { devices, openDevice } from './devices';
import { expectClose, floats, golden, goldenJson } from './golden';
import { goldenTokenModel } from './models';

describe.each(['A', 'B'] as const)('golden AR values of configuration %s', (set) => {
  const values = golden(`${set}/golden_ar.safetensors`);
  const settings = goldenJson(`${set}/golden.json`).ar;
  const { config, weights } = goldenTokenModel(set);
  const { tokens, causalTokens, groupSize, vocabularySize } = config;

  describe.each(devices)('on the %s backend', (device) => {
    let backend: Backend;
    let model: GroupTokenModel;
    let full: Executable;
    beforeAll(async () => {
      backend = await openDevice(device);
      model = createTokenModel({ config, weights, backend });
      full = await backend.compile(forwardGraph(config), weights);
    });
    afterAll(() => backend.close());

    /** Logits [B, L, V] of the first `known` tokens by one pass over the whole sequence. */
    async function forward(labels: Int32Array, codes: Int32Array, known: number): Promise<Float32Array> {
      const specials = known < causalTokens ? 0 : groupSize - 1;
      const length = 1 + known + specials;
      const token = (place: number) => (place <= causalTokens ? place - 1 : place - 1 - specials);
      const kinds = Int32Array.from({ length }, (_, place) => {
        if (place === 0) return PlaceKind.class;
        return place > causalTokens && place <= causalTokens + specials ? PlaceKind.special : PlaceKind.token;
      });
      const ids = Int32Array.from({ length: labels.length * length }, (_, i) => {
        const [row, place] = [Math.floor(i / length), i % length];
        if (kinds[place] === PlaceKind.class) return labels[row];
        return kinds[place] === PlaceKind.special
          ? place - causalTokens - 1
          : codes[row * tokens + token(place)];
      });
      const { logits } = await full.run({
        ids: new Tensor('int32', ids, [labels.length, length]),
        kinds: new Tensor('int32', kinds, [length]),
        positions: new Tensor('int32', Int32Array.from(kinds.keys()), [length]),
        visible: new Tensor('bool', placeMask(length, config), [length, length]),
      });
      return logits.data as Float32Array;
    }

    const labels = values.labels.data as Int32Array;
    const codes = values.codes.data as Int32Array;
    const prefixes = Object.keys(values)
      .flatMap((name) => /^logits\.prefix(\d+)\.argmax_last$/.exec(name)?.[1] ?? [])
      .map(Number);

    test.each(prefixes)('logits after %i tokens, in one pass', async (known) => {
      const logits = await forward(labels, codes, known);
      const length = logits.length / labels.length / vocabularySize;
      const count = known < causalTokens ? 1 : groupSize;
      const all = values[`logits.prefix${known}.all`];
      if (all) expectClose(logits, floats(all));
      const firstRow = values[`logits.prefix${known}.all.row0`];
      if (firstRow) expectClose(logits.subarray(0, length * vocabularySize), floats(firstRow));
      const last = Float32Array.from(
        Array.from(labels).flatMap((_, row) =>
          Array.from(
            logits.subarray(
              ((row + 1) * length - count) * vocabularySize,
              (row + 1) * length * vocabularySize,
            ),
          ),
        ),
      );
      const reference = values[`logits.prefix${known}.last`];
      if (reference) expectClose(last, floats(reference));
      const largest = Array.from({ length: last.length / vocabularySize }, (_, i) =>
        argmax(last.subarray(i * vocabularySize, (i + 1) * vocabularySize)),
      );
      expect(largest).toEqual(Array.from(values[`logits.prefix${known}.argmax_last`].data));
    });

    test('stepping with the cache gives the logits of the whole pass at every position', async () => {
      const session = await model.begin(Array.from(labels));
      let chosen: Int32Array | undefined;
      while (session.position < tokens) {
        const logits = (await session.predict(chosen)).data as Float32Array;
        const [from, count] = [session.position, session.nextCount];
        const whole = await forward(labels, codes, from);
        const length = whole.length / labels.length / vocabularySize;
        const expected = Array.from(labels).flatMap((_, row) =>
          Array.from(
            whole.subarray(
              ((row + 1) * length - count) * vocabularySize,
              (row + 1) * length * vocabularySize,
            ),
          ),
        );
        expectClose(logits, expected);
        if (from + count === tokens) break;
        chosen = Int32Array.from(
          { length: labels.length * count },
          (_, i) => codes[Math.floor(i / count) * tokens + from + (i % count)],
        );
      }
      await session.dispose();
    });

    const generated = Array.from(values['gen.labels'].data);

    test.each(['greedy', 'greedy_gradual'])('%s tokens and guided logits', async (name) => {
      const guidance: Guidance = name === 'greedy_gradual' ? model.guidances.gradual : constantGuidance;
      const options = { cfg: settings.greedy.cfg_scale, guidance };
      const steps = sampleTokens({ model, labels: generated, greedy: true, ...options });
      expect(await lastTokens(steps)).toEqual(Array.from(values[`gen.${name}.tokens`].data));
      expectClose(
        await guided(values[`gen.${name}.tokens`].data as Int32Array, options),
        floats(values[`gen.${name}.guided_logits.row0`]),
      );
    });

    test('sampled tokens and probabilities, replaying the noise', async () => {
      const {
        cfg_scale: cfg,
        gradual_cfg: isGradual,
        temperature,
        top_k: topK,
        top_p: topP,
      } = settings.sampled;
      const guidance = isGradual ? model.guidances.gradual : constantGuidance;
      const noise = new Tensor(
        'float32',
        floats(values['gen.sampled.noise']),
        values['gen.sampled.noise'].shape,
      );
      const steps = sampleTokens({
        model,
        labels: generated,
        cfg,
        guidance,
        temperature,
        topK,
        topP,
        noise,
      });
      expect(await lastTokens(steps)).toEqual(Array.from(values['gen.sampled.tokens'].data));
      const logits = await guided(values['gen.sampled.tokens'].data as Int32Array, { cfg, guidance });
      const probabilities = Array.from({ length: tokens }, (_, i) =>
        Array.from(
          softmax(
            filterLogits(logits.subarray(i * vocabularySize, (i + 1) * vocabularySize), {
              temperature,
              topK,
              topP,
            }),
          ),
        ),
      ).flat();
      expectClose(probabilities, floats(values['gen.sampled.probs.row0']));
    });

    /** Guided logits [N, V] along a given sequence of the first label. */
    async function guided(
      sequence: Int32Array,
      options: { cfg: number; guidance: Guidance },
    ): Promise<Float32Array> {
      const session = await model.begin([generated[0], model.unconditional()]);
      const out = new Float32Array(tokens * vocabularySize);
      let chosen: Int32Array | undefined;
      for (let position = 0; position < tokens; ) {
        const logits = (await session.predict(chosen)).data as Float32Array;
        const count = session.nextCount;
        const scale = options.guidance(stepAt(model.schedule, position), options.cfg);
        const half = count * vocabularySize;
        guide(
          logits.subarray(0, half),
          logits.subarray(half),
          scale,
          out.subarray(position * vocabularySize, position * vocabularySize + half),
        );
        const block = sequence.subarray(position, position + count);
        chosen = Int32Array.from([...block, ...block]);
        position += count;
      }
      await session.dispose();
      return out;
    }
  });
});

async function lastTokens(steps: AsyncIterable<{ tokens(): Promise<Tensor> }>): Promise<number[]> {
  let last: number[] = [];
  for await (const step of steps) last = Array.from((await step.tokens()).data as Int32Array);
  return last;
}

function argmax(values: Float32Array): number {
  return values.indexOf(Math.max(...values));
}
