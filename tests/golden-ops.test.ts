import { placeMask, presetConfig, ropeTables } from '@detailflow/ar-model';
import { gelu, Tensor, trace, type Value } from '@detailflow/core';
import { createReferenceBackend } from '@detailflow/core/reference';
import { filterLogits } from '@detailflow/sampler';
import { attentionMask, patchify, unpatchify } from '@detailflow/tokenizer';
import { describe, expect, test } from 'vitest';
import { expectClose, floats, golden, goldenJson } from './golden';

const ops = golden('ops.safetensors');
const tables = goldenJson('tables.json');

/** Runs a graph function on the golden array `NAME.in`. */
async function run(name: string, build: (x: Value) => Value): Promise<Float32Array> {
  const { shape } = ops[name];
  const graph = trace((g) => ({ y: build(g.input('x', 'f32', shape)) }));
  const executable = await createReferenceBackend().compile(graph, new Map());
  const { y } = await executable.run({ x: new Tensor('float32', floats(ops[name]), shape) });
  return y.data as Float32Array;
}

test('patches are cut and put back in the official order', async () => {
  expect(await run('patchify.in', (x) => patchify(x, 4, 3))).toEqual(floats(ops['patchify.p4.out']));
  expect(await run('unpatchify.in', (x) => unpatchify(x, 4, 3))).toEqual(floats(ops['unpatchify.p4.out']));
});

test('GELU in its tanh form', async () => {
  expectClose(await run('gelu_tanh.in', gelu), floats(ops['gelu_tanh.out']), 1e-6);
});

const freqs = Object.keys(ops).flatMap((name) => {
  const match = /^freqs\.(\d+)x(\d+)\.d(\d+)\.base(\d+)$/.exec(name);
  return match ? [[name, ...match.slice(1).map(Number)] as [string, number, number, number, number]] : [];
});

test.each(freqs)('rotary table %s', (name, rows, columns, headDim, ropeBase) => {
  const sizes = { tokens: (rows + 1) * columns, groupSize: columns, vocabularySize: 8, classes: 1 };
  const { cos, sin } = ropeTables({ ...presetConfig('GPT-B', sizes), dim: headDim, heads: 1, ropeBase });
  const reference = floats(ops[name]);
  // The official table ends after the grid's last cell, ours has whole groups.
  const places = 1 + rows * columns;
  const pairs = Array.from({ length: (places * headDim) / 2 }, (_, i) => [cos[i], sin[i]]).flat();
  expectClose(pairs, reference, 1e-6);
});

const filters = Object.keys(ops).flatMap((name) => {
  const match = /^filter\.k(\d+)\.p([\d.]+)\.rows(\d+)$/.exec(name);
  return match ? [[name, Number(match[1]), Number(match[2]), Array.from(match[3], Number)] as const] : [];
});

test.each(filters)('%s', (name, topK, topP, rows) => {
  const all = ops['filter.in'];
  const width = all.shape[1];
  const kept = rows.flatMap((row) =>
    Array.from(
      filterLogits(floats(all).subarray(row * width, (row + 1) * width), { temperature: 1, topK, topP }),
    ),
  );
  expect(kept).toEqual(Array.from(ops[name].data)); // the rest unchanged, what is removed -Infinity
});

const drawn = (mask: Uint8Array, length: number): string[] =>
  Array.from({ length }, (_, row) => mask.subarray(row * length, (row + 1) * length).join(''));

describe('visibility', () => {
  test.each<(typeof tables)[string]>(tables.create_attn_mask_for_x_z__1_means_blocked)(
    'of $n patches and $m latents in groups of $group_size',
    ({ n, m, x_see_z, z_see_x, group_size, causal_num, mask }) => {
      const visible = attentionMask({
        patches: n,
        tokens: m,
        groupSize: group_size,
        causalTokens: causal_num ?? group_size,
        patchesSeeLatents: x_see_z,
        latentsSeePatches: z_see_x,
      });
      const blocked = visible.map((bit) => 1 - bit);
      expect(drawn(blocked, n + m)).toEqual(mask);
    },
  );

  test.each<(typeof tables)[string]>(tables.create_group_causal_mask__1_means_visible)(
    'of $seq_len places in groups of $group_size after $causal_num',
    ({ seq_len, group_size, causal_num, mask }) => {
      const config = presetConfig('GPT-B', {
        tokens: seq_len,
        groupSize: group_size,
        causalTokens: causal_num,
        vocabularySize: 8,
        classes: 1,
      });
      expect(drawn(placeMask(seq_len, config), seq_len)).toEqual(mask);
    },
  );
});
