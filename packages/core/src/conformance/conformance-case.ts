import type { Tensors } from '../backend';
import type { Bindings } from '../dim';
import type { GraphBuilder, Value } from '../graph';
import { Tensor } from '../tensor';

/** A small graph and what to feed it: a backend must compute what the reference backend computes. */
export interface ConformanceCase {
  readonly name: string;
  /** Adds the graph's nodes; returns its outputs. */
  readonly build: (graph: GraphBuilder) => Readonly<Record<string, Value>>;
  /** Feeds of consecutive runs; with states, of runs on one state. */
  readonly runs: readonly Tensors[];
  /** Weights by name. */
  readonly weights?: Readonly<Record<string, Tensor>>;
  /** Symbols in the shapes of states; set for graphs with states. */
  readonly stateDims?: Bindings;
  /** Names of the states to compare after the last run. */
  readonly states?: readonly string[];
}

/** Repeatable numbers in about [-2, 2], no two alike. */
export function f32(...dims: number[]): Tensor {
  const count = dims.reduce((a, b) => a * b, 1);
  const data = Float32Array.from(
    { length: count },
    (_, i) => 2 * Math.sin(12.9898 * (i + 1) + 0.37 * dims.length + count),
  );
  return new Tensor('float32', data, dims);
}

/** The same tensor with every number moved a little, so that no two operands are equal. */
export function shifted({ data, dims }: Tensor): Tensor {
  return new Tensor(
    'float32',
    Float32Array.from(data as Float32Array, (x) => 0.8 * x + 0.3),
    dims,
  );
}

/** Whole numbers. */
export function i32(values: readonly number[], ...dims: number[]): Tensor {
  return new Tensor('int32', Int32Array.from(values), dims);
}

/** Truth values, from 0 and 1. */
export function bool(values: readonly number[], ...dims: number[]): Tensor {
  return new Tensor('bool', Uint8Array.from(values), dims);
}

const dtypes = { float32: 'f32', int32: 'i32', bool: 'bool' } as const;

/** A case whose inputs have the fixed shapes of its feeds. */
export function fixed(
  name: string,
  feeds: Readonly<Record<string, Tensor>>,
  compute: (x: Readonly<Record<string, Value>>, graph: GraphBuilder) => Value,
): ConformanceCase {
  return {
    name,
    runs: [feeds],
    build: (graph) => {
      const inputs = Object.entries(feeds).map(([key, feed]) => [
        key,
        graph.input(key, dtypes[feed.type as keyof typeof dtypes], feed.dims),
      ]);
      return { y: compute(Object.fromEntries(inputs), graph) };
    },
  };
}
