import type { Tensors } from './backend';
import { type Graph, type GraphBuilder, trace, type Value } from './graph';
import { exponentialNoise } from './philox';
import { createReferenceBackend } from './reference-backend';
import { Tensor } from './tensor';
import { type Weights, weightFromArray } from './weights';

/** Repeatable numbers for tests, about half of them negative. */
export function randomTensor(seed: number, ...dims: number[]): Tensor<'float32'> {
  const count = dims.reduce((a, b) => a * b, 1);
  return new Tensor(
    'float32',
    exponentialNoise({ seed, position: 0, count }).map((e) => e - 0.7),
    dims,
  );
}

export function i32(...values: number[]): Tensor {
  return new Tensor('int32', Int32Array.from(values), [values.length]);
}

export function f32(...values: number[]): Tensor {
  return new Tensor('float32', Float32Array.from(values), [values.length]);
}

export const noWeights: Weights = new Map();

export function weightsOf(tensors: Readonly<Record<string, Tensor>>): Weights {
  return new Map(
    Object.entries(tensors).map(([name, { dims, data }]) => [
      name,
      weightFromArray(name, dims, data as Float32Array),
    ]),
  );
}

const dtypes = { float32: 'f32', int32: 'i32', bool: 'bool' } as const;

/** A graph with one input for each feed, of the type and shape of that feed, and the output `y`. */
export function traceLike(
  feeds: Tensors,
  build: (x: Readonly<Record<string, Value>>, graph: GraphBuilder) => Value,
): Graph {
  return trace((g) => {
    const inputs = Object.entries(feeds).map(([name, { type, dims }]) => [
      name,
      g.input(name, dtypes[type], dims),
    ]);
    return { y: build(Object.fromEntries(inputs), g) };
  });
}

/** What the reference backend computes, as plain numbers. */
export async function evaluate(graph: Graph, feeds: Tensors, output = 'y'): Promise<number[]> {
  const executable = await createReferenceBackend().compile(graph, noWeights);
  return Array.from((await executable.run(feeds))[output].data as Float32Array);
}
