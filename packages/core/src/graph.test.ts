import { expect, test } from 'vitest';
import { symbol } from './dim';
import { extent, type GraphBuilder, trace, type Value } from './graph';
import { add, mul } from './ops/elementwise';

const refuses = (build: (graph: GraphBuilder) => Record<string, Value>, code: string, text: string) =>
  expect(() => trace(build)).toThrow(
    expect.objectContaining({ code, message: expect.stringContaining(text) }),
  );

test('inputs, weights, states and outputs are found by name', () => {
  const graph = trace((g) => {
    const x = g.input('x', 'f32', [symbol('batch'), 3]);
    const total = g.state('total', [3]);
    g.update('total', add(total, g.weight('w', [3])));
    return { y: add(x, total) };
  });
  expect([...graph.inputs.keys()]).toEqual(['x']);
  expect([...graph.weights.keys()]).toEqual(['w']);
  expect([...graph.outputs.keys()]).toEqual(['y']);
  expect(graph.states.get('total')?.before.op).toBe('state');
  expect(graph.states.get('total')?.after.op).toBe('add');
});

test('nodes come after what they need', () => {
  const graph = trace((g) => {
    const x = g.input('x', 'f32', [2]);
    return { y: mul(add(x, 1), add(x, 2)) };
  });
  const place = new Map(graph.nodes.map((node, i) => [node, i]));
  for (const [i, node] of graph.nodes.entries()) {
    for (const input of node.inputs) expect(place.get(input)).toBeLessThan(i);
  }
});

test('what no output or state needs is left out, inputs stay', () => {
  const graph = trace((g) => {
    const x = g.input('x', 'f32', [2]);
    g.input('unused', 'i32', [1]);
    mul(x, g.weight('unused', [2]));
    return { y: add(x, g.weight('used', [2])) };
  });
  expect(graph.nodes.map((node) => node.op)).toEqual(['input', 'input', 'weight', 'add']);
  expect([...graph.weights.keys()]).toEqual(['used']);
  expect([...graph.inputs.keys()]).toEqual(['x', 'unused']);
});

test('a weight used twice is one weight, in one shape', () => {
  const graph = trace((g) => ({ y: add(g.weight('w', [3]), g.weight('w', [3])) }));
  expect(graph.nodes.filter((node) => node.op === 'weight')).toHaveLength(1);
  refuses((g) => ({ y: add(g.weight('w', [3]), g.weight('w', [1, 3])) }), 'shape', 'w: ');
});

test('extent counts negative axes from the end', () => {
  trace((g) => {
    const x = g.input('x', 'f32', [2, 5]);
    expect(extent(x, -1)).toBe(5);
    expect(extent(x, 0)).toBe(2);
    return { y: x };
  });
});

test('names are given once', () => {
  refuses((g) => ({ y: add(g.input('x', 'f32', [1]), g.input('x', 'f32', [1])) }), 'invalid-argument', '"x"');
  refuses((g) => ({ y: add(g.state('s', [1]), g.state('s', [1])) }), 'invalid-argument', '"s"');
  refuses((g) => ({ x: g.input('x', 'f32', [1]) }), 'invalid-argument', 'both an input and an output');
});

test('a state that is not updated keeps its value', () => {
  const { states, outputs } = trace((g) => ({ y: g.state('s', [1]) }));
  expect(states.get('s')).toEqual({ before: outputs.get('y'), after: outputs.get('y') });
});

test('a state is updated at most once, in its shape and type', () => {
  refuses(
    (g) => {
      const s = g.state('s', [1]);
      g.update('s', add(s, 1));
      g.update('s', add(s, 2));
      return {};
    },
    'invalid-argument',
    'updated twice',
  );
  refuses(
    (g) => {
      g.update('s', g.input('x', 'f32', [1]));
      return {};
    },
    'invalid-argument',
    'unknown',
  );
  for (const [dtype, shape] of [
    ['f32', [2]],
    ['i32', [1]],
  ] as const) {
    refuses(
      (g) => {
        g.state('s', [1]);
        g.update('s', g.input('x', dtype, shape));
        return {};
      },
      'shape',
      '"s"',
    );
  }
});

test('values of another graph are refused wherever they are given', () => {
  let foreign: Value | undefined;
  trace((g) => {
    foreign = g.input('x', 'f32', [1]);
    return {};
  });
  const other = foreign as Value;
  refuses((g) => ({ y: add(g.input('x', 'f32', [1]), other) }), 'invalid-argument', 'another graph');
  refuses(() => ({ y: other }), 'invalid-argument', 'another graph');
  refuses(
    (g) => {
      g.state('s', [1]);
      g.update('s', other);
      return {};
    },
    'invalid-argument',
    'another graph',
  );
});

test('a constant holds as many values as its shape says', () => {
  refuses((g) => ({ y: g.constant(new Float32Array(5), [2, 3]) }), 'shape', '5 values');
});

test.each([[[-1]], [[2.5]], [[Number.NaN]]])('%o is no shape', (shape) => {
  refuses((g) => ({ y: add(g.input('x', 'f32', shape), 1) }), 'shape', 'whole numbers');
});
