import { symbol } from '../dim';
import { cachedAttention, HIDDEN } from '../ops/attention';
import { add, exp, less, mul, select, sub } from '../ops/elementwise';
import { writeRows } from '../ops/indexing';
import { sum } from '../ops/reduce';
import { type ConformanceCase, f32, i32 } from './conformance-case';

const batch = symbol('batch');

/** Graphs that keep something from run to run. */
export const stateCases: readonly ConformanceCase[] = [
  {
    name: 'attention to a cache that grows',
    stateDims: { batch: 2 },
    states: ['k', 'v'],
    runs: [0, 1, 2].map((at) => ({ x: f32(2, 3, at === 2 ? 3 : 1, 4), at: i32([at], 1) })),
    build: (g) => {
      const x = g.input('x', 'f32', [batch, 3, symbol('step'), 4]);
      const at = g.input('at', 'i32', [1]);
      const places = g.constant(Int32Array.of(0, 1, 2, 3, 4), [5], 'i32');
      const pastBias = select(less(places, at), 0, HIDDEN);
      const [pastK, pastV] = ['k', 'v'].map((name) => {
        const cache = g.state(name, [batch, 3, 5, 4]);
        g.update(name, writeRows(cache, mul(x, name === 'k' ? 1 : 0.5), at, 2));
        return cache;
      });
      return { y: cachedAttention(x, x, mul(x, 0.5), { scale: 0.5, pastK, pastV, pastBias }) };
    },
  },
  {
    name: 'a state read after it is updated, and its old value too',
    stateDims: {},
    states: ['total'],
    runs: [{ x: f32(3) }, { x: f32(3) }],
    build: (g) => {
      const x = g.input('x', 'f32', [3]);
      const total = g.state('total', [3]);
      const next = add(total, x);
      g.update('total', next);
      return { change: sub(next, total), product: mul(next, exp(total)) };
    },
  },
  {
    name: 'two states that swap their values',
    stateDims: {},
    states: ['a', 'b'],
    runs: [{ x: f32(2) }, { x: f32(2) }, { x: f32(2) }],
    build: (g) => {
      const [a, b] = [g.state('a', [2]), g.state('b', [2])];
      g.update('a', add(b, g.input('x', 'f32', [2])));
      g.update('b', a);
      return { sum: add(a, b) };
    },
  },
  {
    name: 'integers kept from run to run',
    stateDims: {},
    states: ['codes', 'last'],
    runs: [0, 2].map((at) => ({ x: i32([7 + at, -3], 1, 2), at: i32([at], 1) })),
    build: (g) => {
      const x = g.input('x', 'i32', [1, 2]);
      const codes = g.state('codes', [1, 4], 'i32');
      g.update('codes', writeRows(codes, x, g.input('at', 'i32', [1]), 1));
      const last = g.state('last', [1, 2], 'i32');
      g.update('last', add(last, x));
      return { before: mul(codes, 1) };
    },
  },
  {
    name: 'rows written into a state whose new value is read as well',
    stateDims: {},
    states: ['rows'],
    runs: [0, 2, 1].map((at) => ({ x: f32(2, 3), at: i32([at], 1) })),
    build: (g) => {
      const rows = g.state('rows', [4, 3]);
      const next = writeRows(rows, g.input('x', 'f32', [2, 3]), g.input('at', 'i32', [1]), 0);
      g.update('rows', next);
      return { y: sum(next, [0]) };
    },
  },
];
