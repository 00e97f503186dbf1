import { describe, expect, test } from 'vitest';
import { conformanceCases } from '../conformance/cases';
import { GraphBuilder, trace, type Value } from '../graph';
import { add, exp, log, maximum, mul, stopGradient, straightThrough, tanh } from '../ops/elementwise';
import { reshape } from '../ops/layout';
import { matmul } from '../ops/matmul';
import { softmax } from '../ops/normalisation';
import { max, sum } from '../ops/reduce';
import { operations } from '../ops/table';
import { createReferenceBackend } from '../reference-backend';
import { Tensor } from '../tensor';
import { gradientRules, gradients } from './gradients';

type Feeds = Readonly<Record<string, Tensor>>;
type Build = (graph: GraphBuilder) => Readonly<Record<string, Value>>;

/** Sum of all float outputs, each element with its own weight: a loss that depends on every one of them. */
function weightedSum(graph: GraphBuilder, outputs: Readonly<Record<string, Value>>): Value {
  const terms = Object.values(outputs)
    .filter((value) => value.dtype === 'f32')
    .map((value) => {
      const size = (value.shape as number[]).reduce((a, b) => a * b, 1);
      const weights = Float64Array.from({ length: size }, (_, i) => Math.cos(3 * i + 1));
      const flat = mul(reshape(value, [size]), graph.constant(weights, [size]));
      return sum(flat, [0]);
    });
  return terms.reduce(add);
}

async function evaluate(build: Build, feeds: Feeds): Promise<Record<string, Tensor>> {
  const backend = createReferenceBackend();
  return (await backend.compile(trace(build), new Map())).run(feeds);
}

const floatInputs = (feeds: Feeds) => Object.keys(feeds).filter((name) => feeds[name].type === 'float32');

/** Gradients by the graph, and by central differences of fourth order in float64. */
async function compare(build: Build, feeds: Feeds): Promise<void> {
  const names = floatInputs(feeds);
  const lossOf: Build = (graph) => ({ loss: weightedSum(graph, build(graph)) });
  const analytic = await evaluate((graph) => {
    const loss = lossOf(graph).loss;
    const inputs = names.map((name) => graph.inputs.get(name) as Value);
    const found = gradients(loss, inputs);
    return Object.fromEntries(names.flatMap((name, i) => (found[i] ? [[`d ${name}`, found[i]]] : [])));
  }, feeds);
  for (const name of names) {
    const { data, dims } = feeds[name];
    const gradient = analytic[`d ${name}`];
    if (gradient) expect(gradient.dims).toEqual(dims);
    for (let i = 0; i < data.length; i++) {
      const at = async (offset: number) => {
        const moved = Float32Array.from(data as Float32Array);
        moved[i] += offset;
        const { loss } = await evaluate(lossOf, { ...feeds, [name]: new Tensor('float32', moved, dims) });
        return { loss: loss.data[0] as number, x: moved[i] };
      };
      const step = 2 ** -8;
      const [a, b, c, d] = await Promise.all([at(-2 * step), at(-step), at(step), at(2 * step)]);
      const numeric = (a.loss - 8 * b.loss + 8 * c.loss - d.loss) / (12 * step);
      const found = gradient ? (gradient.data[i] as number) : 0;
      expect(Math.abs(found - numeric), `${name}[${i}]: ${found}, by differences ${numeric}`).toBeLessThan(
        2e-3 * Math.max(1, Math.abs(numeric)),
      );
    }
  }
}

describe('gradients agree with finite differences', () => {
  const differentiable = conformanceCases.filter(
    ({ name, runs, weights, stateDims }) =>
      !weights &&
      !stateDims &&
      runs.length === 1 &&
      floatInputs(runs[0]).length > 0 &&
      !/topK|less|zeros|overlapping|stopGradient|straightThrough/.test(name),
  );

  test.each(differentiable)('$name', ({ build, runs: [feeds] }) => compare(build, feeds));

  test('several uses of one value', () =>
    compare(
      (g) => {
        const x = g.input('x', 'f32', [3, 2]);
        return { y: mul(exp(x), add(x, tanh(x))), z: matmul(x, x, { transposeB: true }) };
      },
      { x: new Tensor('float32', Float32Array.of(0.1, -0.4, 0.7, 1.1, -0.9, 0.3), [3, 2]) },
    ));
});

test('every operation that yields floats has a rule, or a decomposition made of such', () => {
  const integersOnly = new Set(['less', 'equal', 'topK']);
  for (const [name, { decompose }] of operations) {
    expect(name in gradientRules || decompose !== undefined || integersOnly.has(name), name).toBe(true);
  }
});

test('a gradient can be differentiated again', async () => {
  const x = new Tensor('float32', Float32Array.of(0.3, -0.7, 1.2), [3]);
  const build: Build = (g) => {
    const value = g.input('x', 'f32', [3]);
    const loss = sum(mul(softmax(value), exp(value)), [0]);
    const [first] = gradients(loss, [value]);
    return { y: first as Value };
  };
  await compare(build, { x });
});

test('nothing flows through stopGradient, and straightThrough hands it to the second operand', async () => {
  const feeds = { x: new Tensor('float32', Float32Array.of(2, 5), [2]) };
  const result = await evaluate((g) => {
    const x = g.input('x', 'f32', [2]);
    const passed = straightThrough(mul(x, 100), log(x));
    const loss = sum(add(mul(stopGradient(x), x), passed), [0]);
    return { value: loss, dx: gradients(loss, [x])[0] as Value };
  }, feeds);
  expect(Array.from(result.value.data as Float32Array)).toEqual([4 + 25 + 700]);
  expect(Array.from(result.dx.data as Float32Array, (v) => Math.fround(v))).toEqual([2.5, Math.fround(5.2)]);
});

test('ties of maximum go to the first operand, ties of max are shared', async () => {
  const feeds = { x: new Tensor('float32', Float32Array.of(1, 1, 0), [3]) };
  const result = await evaluate((g) => {
    const x = g.input('x', 'f32', [3]);
    return {
      a: gradients(sum(maximum(x, 1), [0]), [x])[0] as Value,
      b: gradients(max(x, [0]), [x])[0] as Value,
    };
  }, feeds);
  expect(Array.from(result.a.data as Float32Array)).toEqual([1, 1, 0]);
  expect(Array.from(result.b.data as Float32Array)).toEqual([0.5, 0.5, 0]);
});

test('errors: a loss of several elements, an operation without gradient', () => {
  const g = new GraphBuilder();
  const x = g.input('x', 'f32', [2]);
  expect(() => gradients(x, [x])).toThrow(expect.objectContaining({ code: 'shape' }));
  expect(gradients(sum(exp(x), [0]), [g.input('unused', 'f32', [2])])).toEqual([undefined]);
});
