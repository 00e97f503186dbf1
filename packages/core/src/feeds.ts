import { describe } from './describe';
import { type Bindings, evaluateShape, formatShape, plainSymbol } from './dim';
import { DetailFlowError } from './errors';
import type { Graph, Value } from './graph';
import type { DType } from './op';
import { isTensor, type Tensor, type TensorType } from './tensor';
import type { Weights } from './weights';

/** Names of graph dtypes in `onnxruntime-common`. */
export const tensorTypes: Readonly<Record<DType, TensorType>> = {
  f32: 'float32',
  i32: 'int32',
  bool: 'bool',
};

/**
 * Values of a graph's symbols, read off the feeds, which are checked against the declared inputs on the way.
 * @throws DetailFlowError `invalid-argument`, `dtype` or `shape`, naming the input
 */
export function bindFeeds(graph: Graph, feeds: Readonly<Record<string, Tensor>>): Bindings {
  for (const name of Object.keys(feeds)) {
    if (!graph.inputs.has(name)) {
      throw new DetailFlowError('invalid-argument', `the graph has no input ${describe(name)}`);
    }
  }
  const bindings: Record<string, number> = {};
  for (const [name, input] of graph.inputs) {
    const dims = feedOf(name, input, feeds).dims;
    for (const [axis, dim] of input.shape.entries()) {
      const label = plainSymbol(dim);
      if (label !== undefined) bindings[label] ??= dims[axis];
    }
  }
  for (const [name, input] of graph.inputs) {
    const { dims } = feeds[name];
    const expected = evaluateShape(input.shape, bindings);
    if (dims.join() !== expected.join()) {
      throw new DetailFlowError(
        'shape',
        `the input is ${formatShape(dims)}, must be ${formatShape(input.shape)} = ${formatShape(expected)}`,
        { entry: name },
      );
    }
  }
  return bindings;
}

function feedOf(name: string, input: Value, feeds: Readonly<Record<string, Tensor>>): Tensor {
  const feed = feeds[name];
  if (!feed) throw new DetailFlowError('invalid-argument', 'the input is not given', { entry: name });
  if (!isTensor(feed)) {
    throw new DetailFlowError('invalid-argument', `the input is ${describe(feed)}; give a tensor`, {
      entry: name,
    });
  }
  if (feed.type !== tensorTypes[input.dtype]) {
    throw new DetailFlowError('dtype', `the input is ${feed.type}, must be ${tensorTypes[input.dtype]}`, {
      entry: name,
    });
  }
  if (feed.dims.length !== input.shape.length) {
    throw new DetailFlowError(
      'shape',
      `the input is ${formatShape(feed.dims)}, must be ${formatShape(input.shape)}`,
      {
        entry: name,
      },
    );
  }
  return feed;
}

/**
 * The buffer of a state that a run needs.
 * @throws DetailFlowError `invalid-argument` when there is none, `shape` or `dtype` when it is of another kind
 */
export function requireBuffer<B extends { readonly shape: readonly number[]; readonly dtype: DType }>(
  name: string,
  buffer: B | undefined,
  dtype: DType,
  shape: readonly number[],
): B {
  if (!buffer) {
    throw new DetailFlowError('invalid-argument', 'the state has no such buffer, but the graph needs it', {
      entry: name,
    });
  }
  if (buffer.dtype !== dtype) {
    throw new DetailFlowError('dtype', `the state is ${buffer.dtype}, this run needs ${dtype}`, {
      entry: name,
    });
  }
  if (buffer.shape.join() !== shape.join()) {
    throw new DetailFlowError(
      'shape',
      `the state is ${formatShape(buffer.shape)}, this run needs ${formatShape(shape)}`,
      {
        entry: name,
      },
    );
  }
  return buffer;
}

/** Checks that an axis of a buffer, the first unless said, has these entries. @throws DetailFlowError `shape` */
export function requireEntries(
  name: string,
  shape: readonly number[],
  first: number,
  count: number,
  axis = 0,
): void {
  const areWhole = [first, count].every(Number.isInteger);
  if (areWhole && first >= 0 && count >= 1 && first + count <= shape[axis]) return;
  throw new DetailFlowError(
    'shape',
    `the state is ${formatShape(shape)}: axis ${axis} has no ${count} entries from ${first}`,
    { entry: name },
  );
}

/** Checks that a tensor may replace a buffer. @throws DetailFlowError `shape` or `dtype` */
export function requireLike(name: string, tensor: Tensor, dtype: DType, shape: readonly number[]): void {
  if (tensor.type !== tensorTypes[dtype]) {
    throw new DetailFlowError('dtype', `the tensor is ${tensor.type}, the buffer ${tensorTypes[dtype]}`, {
      entry: name,
    });
  }
  if (tensor.dims.join() !== shape.join()) {
    throw new DetailFlowError(
      'shape',
      `the tensor is ${formatShape(tensor.dims)}, the buffer ${formatShape(shape)}`,
      {
        entry: name,
      },
    );
  }
}

/** Checks that every weight of the graph is there in its shape. @throws DetailFlowError `weights` */
export function requireWeights(graph: Graph, weights: Weights): void {
  for (const [name, value] of graph.weights) {
    const found = weights.get(name);
    if (!found)
      throw new DetailFlowError('weights', 'the graph needs this weight, but it is not there', {
        entry: name,
      });
    if (found.shape.join() !== value.shape.join()) {
      throw new DetailFlowError(
        'weights',
        `the weight is ${formatShape(found.shape)}, must be ${formatShape(value.shape)}`,
        {
          entry: name,
        },
      );
    }
  }
}
