import { describe, expect, test } from 'vitest';
import { symbol } from './dim';
import { expandComposites } from './expand';
import { type Graph, trace } from './graph';
import { gelu } from './ops/activation';
import { attention } from './ops/attention';
import { add, mul } from './ops/elementwise';
import { layerNorm } from './ops/normalisation';
import { operations } from './ops/table';
import { createReferenceBackend } from './reference-backend';
import { randomTensor, weightsOf } from './test-graphs';

const batch = symbol('batch');
const weights = weightsOf({ w: randomTensor(1, 4), b: randomTensor(2, 4) });
const feeds = { x: randomTensor(3, 2, 1, 3, 4) };

const graph = trace((g) => {
  const x = g.input('x', 'f32', [batch, 1, 3, 4]);
  const normed = layerNorm(x, g.weight('w', [4]), g.weight('b', [4]), 1e-5);
  const memory = g.state('memory', [batch, 1, 3, 4]);
  const mixed = attention(normed, x, gelu(x), { scale: 0.5 });
  g.update('memory', add(memory, mixed));
  return { mixed, sum: add(memory, normed) };
});

const operationsOf = (one: Graph) => new Set(one.nodes.map((node) => node.op));

/** Outputs of two runs on one state, and the state. */
async function results(one: Graph): Promise<number[]> {
  const executable = await createReferenceBackend().compile(one, weights);
  const state = await executable.createState({ batch: 2 });
  const tensors = [await executable.run(feeds, { state }), await executable.run(feeds, { state })];
  const all = [...tensors.flatMap(({ mixed, sum }) => [mixed, sum]), await state.read('memory')];
  return all.flatMap((tensor) => Array.from(tensor.data as Float32Array));
}

describe.each<[string[], string[]]>([
  [[], []],
  [['softmax'], ['softmax']], // part of the decomposition of attention
  [
    ['attention', 'gelu'],
    ['attention', 'gelu'],
  ],
  [['layerNorm', 'rope'], ['layerNorm']],
])('keeping %j', (keep, left) => {
  const expanded = expandComposites(graph, new Set(keep));

  test('leaves those composites and no others', () => {
    const composites = [...operationsOf(expanded)].filter((op) => operations.get(op)?.decompose);
    expect(composites.sort()).toEqual(left);
  });

  test('keeps names, shapes and what is computed', async () => {
    for (const kind of ['inputs', 'weights', 'outputs'] as const) {
      const described = (one: Graph) =>
        [...one[kind]].map(([name, { shape, dtype }]) => [name, dtype, `${shape}`]);
      expect(described(expanded)).toEqual(described(graph));
    }
    expect([...expanded.states.keys()]).toEqual(['memory']);
    expect(await results(expanded)).toEqual(await results(graph));
  });
});

test('an operation that nobody knows is named', () => {
  const [node] = graph.nodes.filter(({ op }) => op === 'gelu');
  const strange: Graph = {
    ...graph,
    nodes: graph.nodes.map((one) => (one === node ? { ...one, op: 'fold' } : one)),
  };
  expect(() => expandComposites(strange)).toThrow(
    expect.objectContaining({ code: 'unsupported', message: expect.stringContaining('"fold"') }),
  );
});

test('what is computed twice in the same way is computed once', () => {
  const twice = trace((g) => {
    const x = g.input('x', 'f32', [3, 4]);
    return { a: add(gelu(x), 1), b: mul(gelu(x), 2), c: add(x, -0), d: add(x, 0) };
  });
  const expanded = expandComposites(twice);
  expect(expanded.nodes.filter(({ op }) => op === 'tanh')).toHaveLength(1);
  expect(expanded.outputs.get('c')).not.toBe(expanded.outputs.get('d'));
});
