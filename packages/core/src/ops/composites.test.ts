import { expect, test } from 'vitest';
import type { Tensors } from '../backend';
import type { Value } from '../graph';
import { Tensor } from '../tensor';
import { evaluate, f32, randomTensor, traceLike } from '../test-graphs';
import { gelu, geluExact, silu } from './activation';
import { attention, cachedAttention, HIDDEN, rope } from './attention';
import {
  inverseDeviation,
  l2Normalise,
  layerNorm,
  logSoftmax,
  rmsNorm,
  softmax,
  standardise,
} from './normalisation';
import { operations } from './table';
import { writeRowsAt } from './write-rows-at';

/** The formulas once more, by plain loops over rows, to judge the decompositions by. */
type Rows = number[][];

const rowsOf = (feeds: Tensors, name: string): Rows => {
  const { data, dims } = feeds[name];
  const width = dims[dims.length - 1];
  const values = Array.from(data as Float32Array);
  return Array.from({ length: values.length / width }, (_, i) => values.slice(i * width, (i + 1) * width));
};

const total = (values: number[]) => values.reduce((a, b) => a + b, 0);
const dot = (a: number[], b: number[]) => total(a.map((x, i) => x * b[i]));
/** The normal distribution at x, by Simpson's rule over its density. */
function normalDistribution(x: number): number {
  const steps = 200;
  const density = (t: number) => Math.exp((-t * t) / 2) / Math.sqrt(2 * Math.PI);
  const at = (i: number) => (i === 0 || i === steps ? 1 : 2 + 2 * (i % 2)) * density((x * i) / steps);
  return 0.5 + (x / steps / 3) * total(Array.from({ length: steps + 1 }, (_, i) => at(i)));
}
const softmaxOf = (row: number[]) => {
  const raised = row.map(Math.exp);
  return raised.map((x) => x / total(raised));
};

/** softmax(q k^T scale + bias) v of one head. */
function attend(
  q: Rows,
  k: Rows,
  v: Rows,
  scale: number,
  bias: (query: number, key: number) => number,
): number[] {
  return q.flatMap((query, i) => {
    const weights = softmaxOf(k.map((key, j) => scale * dot(query, key) + bias(i, j)));
    return v[0].map((_, d) => total(weights.map((w, j) => w * v[j][d])));
  });
}

/** Cuts rows [H * n, D] into heads. */
const heads = (rows: Rows, count: number): Rows[] =>
  Array.from({ length: count }, (_, h) =>
    rows.slice((h * rows.length) / count, ((h + 1) * rows.length) / count),
  );

interface Case {
  readonly op: string;
  readonly feeds: Tensors;
  readonly build: (x: Readonly<Record<string, Value>>) => Value;
  readonly formula: (rows: (name: string) => Rows) => number[];
}

const eachRow =
  (compute: (row: number[]) => number[]): Case['formula'] =>
  (rows) =>
    rows('x').flatMap(compute);

const x = randomTensor(1, 2, 3, 6);
const qkv = {
  q: randomTensor(2, 1, 2, 4, 3),
  k: randomTensor(3, 1, 2, 5, 3),
  v: randomTensor(4, 1, 2, 5, 3),
};
const bias = randomTensor(5, 4, 5);
const past = { pastK: randomTensor(6, 1, 2, 7, 3), pastV: randomTensor(7, 1, 2, 7, 3) };
const pastBias = f32(0, 0, HIDDEN, 0, HIDDEN, HIDDEN, HIDDEN);

const cases: readonly Case[] = [
  { op: 'softmax', feeds: { x }, build: ({ x }) => softmax(x), formula: eachRow(softmaxOf) },
  {
    op: 'logSoftmax',
    feeds: { x },
    build: ({ x }) => logSoftmax(x),
    formula: eachRow((row) => softmaxOf(row).map(Math.log)),
  },
  {
    op: 'layerNorm',
    feeds: { x, w: randomTensor(8, 6), b: randomTensor(9, 6) },
    build: ({ x, w, b }) => layerNorm(x, w, b, 0.01),
    formula: (rows) =>
      rows('x').flatMap((row) => {
        const mean = total(row) / row.length;
        const variance = total(row.map((value) => (value - mean) ** 2)) / row.length;
        return row.map(
          (value, i) => ((value - mean) / Math.sqrt(variance + 0.01)) * rows('w')[0][i] + rows('b')[0][i],
        );
      }),
  },
  {
    op: 'standardise',
    feeds: { x },
    build: ({ x }) => standardise(x, 0.01),
    formula: (rows) =>
      rows('x').flatMap((row) => {
        const mean = total(row) / row.length;
        const variance = total(row.map((value) => (value - mean) ** 2)) / row.length;
        return row.map((value) => (value - mean) / Math.sqrt(variance + 0.01));
      }),
  },
  {
    op: 'inverseDeviation',
    feeds: { x },
    build: ({ x }) => inverseDeviation(x, 0.01),
    formula: (rows) =>
      rows('x').map((row) => {
        const mean = total(row) / row.length;
        return 1 / Math.sqrt(total(row.map((value) => (value - mean) ** 2)) / row.length + 0.01);
      }),
  },
  {
    op: 'rmsNorm',
    feeds: { x, w: randomTensor(8, 6) },
    build: ({ x, w }) => rmsNorm(x, w, 0.01),
    formula: (rows) =>
      rows('x').flatMap((row) =>
        row.map((value, i) => (value / Math.sqrt(dot(row, row) / row.length + 0.01)) * rows('w')[0][i]),
      ),
  },
  {
    op: 'l2Normalise',
    feeds: { x },
    build: ({ x }) => l2Normalise(x, 1.5), // above some of the norms, below others
    formula: eachRow((row) => row.map((value) => value / Math.max(1.5, Math.sqrt(dot(row, row))))),
  },
  {
    op: 'gelu',
    feeds: { x },
    build: ({ x }) => gelu(x),
    formula: eachRow((row) =>
      row.map((v) => 0.5 * v * (1 + Math.tanh(0.7978845608028654 * (v + 0.044715 * v ** 3)))),
    ),
  },
  {
    op: 'geluExact',
    feeds: { x },
    build: ({ x }) => geluExact(x),
    formula: eachRow((row) => row.map((value) => value * normalDistribution(value))),
  },
  {
    op: 'silu',
    feeds: { x },
    build: ({ x }) => silu(x),
    formula: eachRow((row) => row.map((value) => value / (1 + Math.exp(-value)))),
  },
  {
    op: 'rope',
    feeds: { x: randomTensor(1, 2, 3, 2, 4), cos: randomTensor(10, 3, 2), sin: randomTensor(11, 3, 2) },
    build: ({ x, cos, sin }) => rope(x, cos, sin),
    formula: (rows) =>
      rows('x').flatMap((row, at) => {
        const place = Math.floor(at / 2) % 3; // rows are [batch 2, place 3, head 2]
        return row.map((value, d) => {
          const pair = Math.floor(d / 2);
          const [c, s] = [rows('cos')[place][pair], rows('sin')[place][pair]];
          return d % 2 === 0 ? value * c - row[d + 1] * s : row[d - 1] * s + value * c;
        });
      }),
  },
  {
    op: 'attention',
    feeds: { ...qkv, bias },
    build: ({ q, k, v, bias }) => attention(q, k, v, { scale: 0.6, bias }),
    formula: (rows) => {
      const [q, k, v] = ['q', 'k', 'v'].map((name) => heads(rows(name), 2));
      return q.flatMap((query, h) => attend(query, k[h], v[h], 0.6, (i, j) => rows('bias')[i][j]));
    },
  },
  {
    op: 'cachedAttention',
    feeds: { ...qkv, ...past, pastBias },
    build: ({ q, k, v, pastK, pastV, pastBias }) =>
      cachedAttention(q, k, v, { scale: 0.6, pastK, pastV, pastBias }),
    formula: (rows) => {
      const visible = (head: Rows) => head.filter((_, j) => rows('pastBias')[0][j] === 0);
      const [q, k, v, pastK, pastV] = ['q', 'k', 'v', 'pastK', 'pastV'].map((name) => heads(rows(name), 2));
      return q.flatMap((query, h) =>
        attend(query, [...visible(pastK[h]), ...k[h]], [...visible(pastV[h]), ...v[h]], 0.6, () => 0),
      );
    },
  },
  {
    op: 'cachedAttention',
    feeds: { ...qkv, ...past, pastBias, freshBias: f32(0, HIDDEN, 0, HIDDEN, 0) },
    build: ({ q, k, v, pastK, pastV, pastBias, freshBias }) =>
      cachedAttention(q, k, v, { scale: 0.6, pastK, pastV, pastBias, freshBias }),
    formula: (rows) => {
      const visible = (head: Rows, bias: string) => head.filter((_, j) => rows(bias)[0][j] === 0);
      const [q, k, v, pastK, pastV] = ['q', 'k', 'v', 'pastK', 'pastV'].map((name) => heads(rows(name), 2));
      return q.flatMap((query, h) =>
        attend(
          query,
          [...visible(pastK[h], 'pastBias'), ...visible(k[h], 'freshBias')],
          [...visible(pastV[h], 'pastBias'), ...visible(v[h], 'freshBias')],
          0.6,
          () => 0,
        ),
      );
    },
  },
  {
    op: 'writeRowsAt',
    feeds: {
      buffer: randomTensor(20, 2, 3, 4, 2),
      fresh: randomTensor(21, 2, 3, 2, 2),
      places: new Tensor('int32', Int32Array.of(3, 0, 1, 2), [2, 2]),
      every: new Tensor('int32', Int32Array.of(0, 1, 2, 3), [4]),
    },
    build: ({ buffer, fresh, places, every }) => writeRowsAt(buffer, fresh, places, every),
    formula: (rows) =>
      rows('buffer').flatMap((row, at) => {
        const [block, place] = [Math.floor(at / 4), at % 4]; // rows are [entry 2, head 3, place 4]
        const from = rows('places')[Math.floor(block / 3)].indexOf(place);
        return from < 0 ? row : rows('fresh')[block * 2 + from];
      }),
  },
];

test.each(cases)('$op is what its formula says', async ({ feeds, build, formula }) => {
  const found = await evaluate(traceLike(feeds, build), feeds);
  const expected = formula((name) => rowsOf(feeds, name));
  expect(found).toHaveLength(expected.length);
  for (const [i, value] of expected.entries()) expect(found[i]).toBeCloseTo(value, 6);
});

test('every composite operation is judged above', () => {
  const composites = [...operations].filter(([, definition]) => definition.decompose).map(([name]) => name);
  expect(composites.sort()).toEqual([...new Set(cases.map((one) => one.op))].sort());
});

test('softmax stays finite for large and hidden scores', async () => {
  const feeds = { x: f32(1000, 999, HIDDEN) };
  const [a, b, c] = await evaluate(
    traceLike(feeds, ({ x }) => softmax(x)),
    feeds,
  );
  expect(a).toBeCloseTo(1 / (1 + Math.exp(-1)), 6);
  expect(a + b).toBeCloseTo(1, 6);
  expect(c).toBe(0);
});
