import { readFileSync } from 'node:fs';
import { createNodeBackend } from '@detailflow/backend-node';
import type { VitConfig } from '@detailflow/blocks';
import {
  add,
  type Backend,
  type GraphBuilder,
  mul,
  type ParameterSpec,
  reshape,
  sub,
  sum,
  Tensor,
  trace,
  type Value,
  type Weight,
  weightFromArray,
} from '@detailflow/core';
import { gradients } from '@detailflow/core/gradients';
import { createReferenceBackend } from '@detailflow/core/reference';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { numbers } from '../../../tests/numbers-by-formula';
import { blurDiscriminator, blurDiscriminatorParameters } from './blur-discriminator';
import {
  dinoDiscriminator,
  dinoDiscriminatorParameters,
  dinoFixedParameters,
  dinoSpectralWeights,
} from './dino-discriminator';
import type { Parameters } from './parameters';
import { networkWeights } from './parameters';
import { spectralNorm } from './spectral-norm';
import {
  styleDiscriminator,
  styleDiscriminatorParameters,
  styleDiscriminatorSize,
} from './style-discriminator';
import { vitDistance, vitHeadParameters } from './token-distance';
import { vitDepths } from './vit-network';

interface Summary {
  readonly norm: number;
  readonly first: readonly number[];
  readonly last: readonly number[];
}

interface Judged {
  readonly logits: readonly number[];
  readonly gradient: Readonly<Record<string, Summary>>;
  readonly slope: Summary;
}

/** By torch: tools/reference/discriminators.py. */
const reference: {
  readonly spectral: Readonly<Record<'weight' | 'u' | 'gradient', readonly number[]>>;
  readonly dino: (Judged & {
    readonly batch: number;
    readonly vectors: Readonly<Record<string, Summary>>;
    readonly third: Readonly<Record<string, Summary>>;
  })[];
  readonly stylegan: (Judged & { readonly size: number; readonly width: number; readonly batch: number })[];
  readonly maskbit: (Judged & {
    readonly norm: 'group' | 'none';
    readonly side: number;
    readonly width: number;
    readonly layers: number;
    readonly shape: readonly number[];
  })[];
  readonly distance: {
    readonly features: 'layers' | 'last' | 'class' | 'logits';
    readonly registers: number;
    readonly distances: readonly number[];
    readonly slope: Summary;
  }[];
} = JSON.parse(readFileSync(new URL('../../../tests/fixtures/discriminators.json', import.meta.url), 'utf8'));

const count = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);

function weightsOf(specs: readonly ParameterSpec[], isPlain = false): Map<string, Weight> {
  const value = ({ name, shape }: ParameterSpec) => {
    const x = numbers(name, count(shape));
    if (isPlain) return x;
    if (/(\.norm\d?\.weight|gamma)$/.test(name)) return x.map((v) => 1 + 0.2 * v);
    const factor = shape.length === 1 ? 0.2 : Math.sqrt(3 / count(shape.slice(1)));
    return x.map((v) => v * factor);
  };
  return new Map(specs.map((spec) => [spec.name, weightFromArray(spec.name, spec.shape, value(spec))]));
}

function expectSummary(what: string, { data }: Tensor, { norm, first, last }: Summary, scale = norm): void {
  const values = data as Float32Array;
  const close = (value: number, expected: number) =>
    expect(Math.abs(value - expected), `${what}: ${value}, not ${expected}`).toBeLessThan(
      1e-4 * scale + 1e-7,
    );
  close(Math.sqrt(values.reduce((total, x) => total + x * x, 0)), norm);
  for (const [i, expected] of first.entries()) close(values[i], expected);
  for (const [i, expected] of last.entries()) close(values[values.length - last.length + i], expected);
}

let backend: Backend & { close(): Promise<void> };
beforeAll(async () => {
  backend = await createNodeBackend({ threads: 1 });
});
afterAll(() => backend.close());

/** A number from judgements, each with its own weight. */
function weighed(logits: Value): Value {
  const size = count(logits.shape as number[]);
  const cotangent = logits.graph.constant(numbers('cotangent', size), [size]);
  return reshape(sum(mul(reshape(logits, [size]), cotangent), [0]), [1]);
}

interface Network {
  readonly specs: readonly ParameterSpec[];
  readonly fixed?: readonly ParameterSpec[];
  readonly dims: readonly number[];
  readonly isPlain?: boolean;
  logits(p: Parameters, x: Value): Value;
}

/** Judgements, and gradients of what is learned and of the images, against torch. */
async function expectJudged(
  { specs, fixed = [], dims, isPlain, logits }: Network,
  expected: Judged,
  wrap: (g: GraphBuilder, p: Parameters) => { p: Parameters; outputs?: () => Record<string, Value> } = (
    _,
    p,
  ) => ({ p }),
) {
  const all = [...specs, ...fixed];
  const graph = trace((g) => {
    const raw = networkWeights(g, all);
    const { p, outputs } = wrap(g, raw);
    const x = g.input('x', 'f32', dims);
    const judged = logits(p, x);
    const found = gradients(weighed(judged), [x, ...specs.map(({ name }) => raw(name))]);
    const learned = specs.map(({ name }, i) => [`d ${name}`, found[i + 1] as Value]);
    return { judged, slope: found[0] as Value, ...Object.fromEntries(learned), ...outputs?.() };
  });
  const executable = await backend.compile(graph, weightsOf(all, isPlain));
  const images = numbers('images', count(dims));
  const found = await executable.run({ x: new Tensor('float32', images, dims) });
  await executable.dispose();
  expect(specs.map(({ name }) => name).sort()).toEqual(Object.keys(expected.gradient).sort());
  const size = Math.sqrt(expected.logits.reduce((total, x) => total + x * x, 0));
  expect(found.judged.data).toHaveLength(expected.logits.length);
  for (const [i, value] of expected.logits.entries())
    expect(Math.abs((found.judged.data[i] as number) - value)).toBeLessThan(1e-4 * size);
  expectSummary('slope', found.slope, expected.slope);
  const largest = Math.max(...Object.values(expected.gradient).map(({ norm }) => norm));
  for (const [name, summary] of Object.entries(expected.gradient)) {
    // Nothing but rounding where a norm takes away what was added before it.
    expectSummary(name, found[`d ${name}`], summary, Math.max(summary.norm, 0.01 * largest));
  }
  return found;
}

/** The slope along a direction of all learned weights and images, from both sides in float64. */
async function expectSlope({ specs, fixed = [], dims, isPlain, logits }: Network): Promise<void> {
  const all = [...specs, ...fixed];
  const step = 2 ** -14;
  const graph = trace((g) => {
    const raw = networkWeights(g, all);
    const learned = new Set(specs.map(({ name }) => name));
    const x = g.input('x', 'f32', dims);
    const direction = (name: string, shape: readonly number[]) =>
      g.constant(numbers(`along ${name}`, count(shape)), shape);
    const lossAt = (t: number) => {
      const p = (name: string) =>
        learned.has(name) ? add(raw(name), mul(direction(name, raw(name).shape as number[]), t)) : raw(name);
      return weighed(logits(p, add(x, mul(direction('x', dims), t))));
    };
    const found = gradients(lossAt(0), [x, ...specs.map(({ name }) => raw(name))]);
    const along = [{ name: 'x', shape: dims }, ...specs].map(({ name, shape }, i) => {
      const product = mul(found[i] as Value, direction(name, shape));
      return reshape(sum(product, [...shape.keys()]), [1]);
    });
    const difference = mul(sub(lossAt(step), lossAt(-step)), 1 / (2 * step));
    return { difference, along: along.reduce(add) };
  });
  const executable = await createReferenceBackend().compile(graph, weightsOf(all, isPlain));
  const images = numbers('images', count(dims));
  const { difference, along } = await executable.run({ x: new Tensor('float32', images, dims) });
  const [a, b] = [difference.data[0] as number, along.data[0] as number];
  expect(Math.abs(b)).toBeGreaterThan(1e-3);
  expect(Math.abs(a / b - 1)).toBeLessThan(1e-4);
}

const vit: VitConfig = {
  ...{ imageSize: 12, patchSize: 4, width: 12, heads: 3, layers: 6, hiddenDim: 20, registers: 0 },
  ...{ feedForward: 'gelu', hasClass: true, positions: 'class-and-patches', isScaled: false },
};

const dinoOf = (config: VitConfig, batch: number): Network => ({
  specs: dinoDiscriminatorParameters(config),
  fixed: dinoFixedParameters(config),
  dims: [batch, 3, config.imageSize, config.imageSize],
  logits: (p, x) => dinoDiscriminator(p, config, x),
});

/** Divides weights by what power iteration has found, and shows the vectors. */
const spectral = (g: GraphBuilder, names: readonly string[], raw: Parameters) => {
  const found = new Map(
    names.map((name) => {
      const rows = raw(name).shape[0] as number;
      const u = numbers(`singular.${name}`, rows);
      const length = Math.hypot(...u);
      let state = g.constant(
        u.map((x) => x / length),
        [rows],
      );
      const first = spectralNorm(raw(name), state);
      state = first.u;
      for (let i = 0; i < 2; i++) state = spectralNorm(raw(name), state).u;
      return [name, { ...first, third: state }] as const;
    }),
  );
  const p: Parameters = (name) => found.get(name)?.weight ?? raw(name);
  const outputs = () =>
    Object.fromEntries(
      [...found].flatMap(([name, { u, third }]) => [
        [`u ${name}`, u],
        [`third ${name}`, third],
      ]),
    );
  return { p, outputs };
};

describe('heads on a vision transformer', () => {
  test.each(reference.dino)('a batch of $batch: as by torch, and spectral norm with it', async (expected) => {
    const names = dinoSpectralWeights(vit);
    expect(Object.keys(expected.vectors).sort()).toEqual([...names].sort());
    const found = await expectJudged(dinoOf(vit, expected.batch), expected, (g, raw) =>
      spectral(g, names, raw),
    );
    expect(found.judged.dims).toEqual([expected.batch, 1, 5, 9]);
    for (const name of names) {
      expectSummary(`u ${name}`, found[`u ${name}`], expected.vectors[name]);
      expectSummary(`third ${name}`, found[`third ${name}`], expected.third[name]);
    }
  });

  test('finite differences', () => expectSlope(dinoOf({ ...vit, layers: 2, imageSize: 8 }, 3)));

  test('the depths at which features are taken', () => {
    expect(vitDepths(12)).toEqual([2, 5, 8, 11]);
    expect(vitDepths(24)).toEqual([5, 11, 17, 23]);
    expect(vitDepths(6)).toEqual([1, 2, 4, 5]);
    expect(vitDepths(2)).toEqual([0, 1]);
    expect(vitDepths(1)).toEqual([0]);
  });

  test('a step of spectral norm: its vectors are constants to the gradient, as in torch', async () => {
    const shape = [5, 4, 3];
    const graph = trace((g) => {
      const w = g.input('w', 'f32', shape);
      const drawn = numbers('u', 5);
      const length = Math.hypot(...drawn);
      const { weight, u } = spectralNorm(
        w,
        g.constant(
          drawn.map((x) => x / length),
          [5],
        ),
      );
      const [gradient] = gradients(weighed(weight), [w]);
      return { weight, u, gradient: gradient as Value };
    });
    const executable = await backend.compile(graph, new Map());
    const found = await executable.run({ w: new Tensor('float32', numbers('matrix', count(shape)), shape) });
    await executable.dispose();
    for (const [name, values] of Object.entries(reference.spectral)) {
      expect(found[name].data).toHaveLength(values.length);
      for (const [i, value] of values.entries()) expect(found[name].data[i], name).toBeCloseTo(value, 5);
    }
  });

  test('power iteration finds the largest singular value, and its slope is that of the value', async () => {
    const [rows, columns] = [3, 4];
    const direction = numbers('direction', rows * columns);
    const graph = trace((g) => {
      const w = g.input('w', 'f32', [rows, columns]);
      const along = g.constant(direction, [rows, columns]);
      const iterated = (matrix: Value) => {
        let found = spectralNorm(matrix, g.constant(Float32Array.of(0.6, 0, 0.8), [rows]));
        for (let i = 0; i < 400; i++) found = spectralNorm(matrix, found.u);
        return weighed(found.weight);
      };
      const step = 2 ** -14;
      const [slope] = gradients(iterated(w), [w]);
      const [a, b] = [step, -step].map((t) => iterated(add(w, mul(along, t))));
      const told = reshape(sum(mul(slope as Value, along), [0, 1]), [1]);
      return { told, difference: mul(sub(a, b), 1 / (2 * step)) };
    });
    const executable = await createReferenceBackend().compile(graph, new Map());
    const w = new Tensor('float32', numbers('matrix', rows * columns), [rows, columns]);
    const { told, difference } = await executable.run({ w });
    expect((told.data[0] as number) / (difference.data[0] as number)).toBeCloseTo(1, 5);
  });
});

describe("StyleGAN's discriminator", () => {
  const networkOf = ({ size, width, batch }: { size: number; width: number; batch: number }): Network => ({
    specs: styleDiscriminatorParameters({ size, width }),
    dims: [batch, 3, size, size],
    isPlain: true,
    logits: (p, x) => styleDiscriminator(p, { size, width }, x),
  });

  test.each(reference.stylegan)('$batch images of $size pixels: as by torch', async (expected) => {
    const found = await expectJudged(networkOf(expected), expected);
    expect(found.judged.dims).toEqual([expected.batch, 1, 1, 1]);
  });

  test('finite differences', () => expectSlope(networkOf({ size: 8, width: 0.5, batch: 2 })));

  test('channels and sides', () => {
    const at = (size: number, name: string) =>
      styleDiscriminatorParameters({ size }).find((spec) => spec.name === name)?.shape;
    expect(at(1024, 'input.weight')).toEqual([16, 3, 1, 1]);
    expect(at(256, 'blocks.256.second.weight')).toEqual([128, 64, 3, 3]);
    expect(at(256, 'blocks.8.second.weight')).toEqual([512, 512, 3, 3]);
    expect(at(256, 'last.weight')).toEqual([512, 513, 3, 3]);
    expect([4, 16, 20, 32, 90, 92, 200, 256, 2000].map(styleDiscriminatorSize)).toEqual([
      ...[8, 16, 16, 32, 64, 128, 256, 256, 1024],
    ]);
    for (const size of [4, 12, 96, 2048]) {
      expect(() => styleDiscriminatorParameters({ size })).toThrow(/a power of two from 8 to 1024/);
    }
  });
});

describe("MaskBit's discriminator", () => {
  const networkOf = (config: {
    norm: 'group' | 'none';
    side: number;
    width: number;
    layers: number;
  }): Network => ({
    specs: blurDiscriminatorParameters(config),
    dims: [2, 3, config.side, config.side],
    logits: (p, x) => blurDiscriminator(p, config, x),
  });

  test.each(reference.maskbit)('$side pixels, norm $norm: as by torch', async (expected) => {
    const found = await expectJudged(networkOf(expected), expected);
    expect(found.judged.dims).toEqual(expected.shape);
  });

  test.each(['group', 'none'] as const)('finite differences, norm %s', (norm) =>
    expectSlope(networkOf({ norm, side: 10, width: 2, layers: 2 })),
  );
});

describe('the distance of two images to a vision transformer', () => {
  const configOf = (registers: number): VitConfig => ({
    ...{ ...vit, imageSize: 8, layers: 5, registers, isScaled: registers > 0 },
    positions: registers > 0 ? 'patches' : 'class-and-patches',
  });
  const shape = [2, 3, 8, 8];

  test.each(reference.distance)('$features, $registers registers: as by torch', async (expected) => {
    const config = configOf(expected.registers);
    const specs = [...dinoFixedParameters(config), ...vitHeadParameters(config, 7)];
    const graph = trace((g) => {
      const [x, y] = ['x', 'y'].map((name) => g.input(name, 'f32', shape));
      const p = networkWeights(g, specs);
      const distances = vitDistance(p, config, x, y, expected.features);
      const [slope] = gradients(reshape(sum(distances, [0, 1, 2, 3]), [1]), [x]);
      const same = vitDistance(p, config, x, x, expected.features);
      return { distances, slope: slope as Value, same };
    });
    const executable = await backend.compile(graph, weightsOf(specs));
    const feed = (name: string) => new Tensor('float32', numbers(name, count(shape)), shape);
    const { distances, slope, same } = await executable.run({ x: feed('x'), y: feed('y') });
    await executable.dispose();
    expect(distances.dims).toEqual([2, 1, 1, 1]);
    for (const [i, value] of expected.distances.entries())
      expect((distances.data[i] as number) / value).toBeCloseTo(1, 4);
    expectSummary('slope', slope, expected.slope);
    expect([...same.data]).toEqual([0, 0]);
  });

  test('finite differences', async () => {
    const config = { ...configOf(0), layers: 2 };
    const fixed = dinoFixedParameters(config);
    await expectSlope({
      ...{ specs: [], fixed, dims: shape },
      logits: (p, x) => {
        const other = x.graph.constant(numbers('other', count(shape)), shape);
        return vitDistance(p, config, x, other);
      },
    });
  });
});
