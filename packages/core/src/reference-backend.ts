import type { Backend, Executable, RunOptions, State, StateEntries, Tensors } from './backend';
import { checkOptions } from './check-options';
import { type Bindings, evaluateShape } from './dim';
import { DetailFlowError } from './errors';
import { expandComposites } from './expand';
import { bindFeeds, requireBuffer, requireEntries, requireLike, requireWeights, tensorTypes } from './feeds';
import type { Graph, Value } from './graph';
import { allocate, type DType, type ReferenceArray } from './op';
import { operations } from './ops/table';
import { Tensor } from './tensor';
import { readFloat32, type Weights } from './weights';

/**
 * The judge: runs a graph one primitive after another in float64, with plain loops. Slow and obvious; results are
 * rounded to float32 only where they leave it.
 */
export function createReferenceBackend(): Backend {
  let closed = false;
  const backend: Backend = {
    name: 'reference',
    stateWindows: true,
    async compile(graph, weights, options = {}) {
      checkOptions('compile', options, { dtype: true });
      const { dtype = 'fp32' } = options;
      if (dtype !== 'fp32') {
        throw new DetailFlowError(
          'unsupported',
          `the reference backend computes in float64 only, not in ${dtype}`,
        );
      }
      if (closed) throw new DetailFlowError('closed', 'the reference backend is closed');
      requireWeights(graph, weights);
      return compileReference(backend, expandComposites(graph), weights, () => closed);
    },
    async createState(tensors) {
      if (closed) throw new DetailFlowError('closed', 'the reference backend is closed');
      const held = Object.entries(tensors).map(([name, tensor]) => [name, holdTensor(tensor)] as const);
      return new ReferenceState(backend, new Map(held));
    },
    async close() {
      closed = true;
    },
    [Symbol.asyncDispose]: () => backend.close(),
  };
  return backend;
}

interface Held extends ReferenceArray {
  readonly dtype: DType;
}

class ReferenceState implements State {
  /** The graph or the backend that the state was made by. */
  readonly owner: object;
  readonly buffers: Map<string, Held>;
  /** The shapes that they were made with. */
  readonly #most: ReadonlyMap<string, readonly number[]>;
  disposed = false;

  constructor(owner: object, buffers: Map<string, Held>) {
    this.owner = owner;
    this.buffers = buffers;
    this.#most = new Map([...buffers].map(([name, { shape }]) => [name, shape]));
  }

  get(name: string): Held | undefined {
    return this.buffers.get(name);
  }

  put(name: string, held: Held): void {
    this.buffers.set(name, held);
  }

  async read(name: string): Promise<Tensor> {
    const buffer = this.#buffer(name);
    return toTensor(buffer.dtype, buffer);
  }

  async write(name: string, tensor: Tensor): Promise<void> {
    const { dtype, shape } = this.#buffer(name);
    requireLike(name, tensor, dtype, shape);
    this.put(name, holdTensor(tensor));
  }

  window(first: number, count: number): State {
    if (this.disposed) throw new DetailFlowError('closed', 'the state is disposed');
    for (const [name, { shape }] of this.buffers) requireEntries(name, shape, first, count);
    return new ReferenceWindow(this, first, count);
  }

  async copyEntry(from: number, to: number): Promise<void> {
    const [source, target] = [this.window(from, 1) as ReferenceState, this.window(to, 1) as ReferenceState];
    for (const name of this.buffers.keys()) target.put(name, source.get(name) as Held);
  }

  async resize(axis: number, extent: number, entries?: StateEntries): Promise<void> {
    if (this.disposed) throw new DetailFlowError('closed', 'the state is disposed');
    if (entries) this.window(entries.first, entries.count); // checks them; the others are kept as well here
    for (const [name, most] of this.#most) requireEntries(name, most, 0, extent, axis);
    for (const [name, held] of this.buffers) this.put(name, resized(held, axis, extent));
  }

  #buffer(name: string): Held {
    const buffer = this.get(name);
    if (this.disposed) throw new DetailFlowError('closed', 'the state is disposed');
    if (!buffer) throw new DetailFlowError('invalid-argument', `there is no state "${name}"`);
    return buffer;
  }

  /** Frees what it holds on the device. */
  async dispose(): Promise<void> {
    this.buffers.clear();
    this.disposed = true;
  }
}

/** Some entries of the buffers of another state. */
class ReferenceWindow extends ReferenceState {
  readonly #whole: ReferenceState;
  readonly #first: number;
  readonly #count: number;

  constructor(whole: ReferenceState, first: number, count: number) {
    super(whole.owner, whole.buffers);
    this.#whole = whole;
    this.#first = first;
    this.#count = count;
  }

  override get(name: string): Held | undefined {
    if (this.#whole.disposed) throw new DetailFlowError('closed', 'the state is disposed');
    const held = this.#whole.get(name);
    if (!held) return undefined;
    requireEntries(name, held.shape, this.#first, this.#count);
    const size = this.#entrySize(held);
    const data = held.data.slice(this.#first * size, (this.#first + this.#count) * size);
    return { ...held, data, shape: [this.#count, ...held.shape.slice(1)] };
  }

  override put(name: string, { data }: Held): void {
    const held = this.#whole.get(name) as Held;
    const all = held.data.slice();
    all.set(data as Float64Array, this.#first * this.#entrySize(held));
    this.#whole.put(name, { ...held, data: all });
  }

  override async read(): Promise<Tensor> {
    throw wholeOnly();
  }

  override async write(): Promise<void> {
    throw wholeOnly();
  }

  override window(): State {
    throw wholeOnly();
  }

  override async copyEntry(): Promise<void> {
    throw wholeOnly();
  }

  override async resize(): Promise<void> {
    throw wholeOnly();
  }

  override async dispose(): Promise<void> {
    this.disposed = true;
  }

  #entrySize({ shape }: Held): number {
    return shape.slice(1).reduce((a, b) => a * b, 1);
  }
}

/** A buffer whose axis has other entries: the first ones of before, then zeros. */
function resized({ data, shape, dtype }: Held, axis: number, extent: number): Held {
  const inner = shape.slice(axis + 1).reduce((a, b) => a * b, 1);
  const outer = shape.slice(0, axis).reduce((a, b) => a * b, 1);
  const [before, after] = [shape[axis] * inner, extent * inner];
  const out = allocate(dtype, outer * after);
  for (let i = 0; i < outer; i++) {
    for (let j = 0; j < Math.min(before, after); j++) out[i * after + j] = data[i * before + j];
  }
  return { data: out, shape: shape.map((old, i) => (i === axis ? extent : old)), dtype };
}

const wholeOnly = () =>
  new DetailFlowError('invalid-argument', 'this is a window of a state: ask the whole state');

async function compileReference(
  backend: Backend,
  graph: Graph,
  weights: Weights,
  backendClosed: () => boolean,
): Promise<Executable> {
  const fixed = new Map<Value, ReferenceArray>();
  for (const [name, value] of graph.weights) {
    const data = await readFloat32(weights.get(name) as NonNullable<ReturnType<Weights['get']>>);
    fixed.set(value, { data: Float64Array.from(data), shape: value.shape as number[] });
  }
  let disposed = false;
  const requireOpen = () => {
    if (backendClosed()) throw new DetailFlowError('closed', 'the reference backend is closed');
    if (disposed) throw new DetailFlowError('closed', 'the executable is disposed');
  };
  return {
    async run(feeds: Tensors, options: RunOptions = {}) {
      checkOptions('run', options, { state: true, signal: true });
      const { state, signal } = options;
      signal?.throwIfAborted();
      requireOpen();
      if (graph.states.size > 0) requireState(graph, backend, state);
      return evaluate(graph, fixed, feeds, state as ReferenceState | undefined);
    },
    async createState(dims) {
      requireOpen();
      const buffers = [...graph.states].map(([name, { before }]): [string, Held] => {
        const { dtype } = before;
        const shape = evaluateShape(before.shape, dims);
        const size = shape.reduce((a, b) => a * b, 1);
        return [name, { data: allocate(dtype, size), shape, dtype }];
      });
      return new ReferenceState(graph, new Map(buffers));
    },
    async dispose() {
      disposed = true;
      fixed.clear();
    },
  };
}

function requireState(graph: Graph, backend: Backend, state: State | undefined): void {
  if (!(state instanceof ReferenceState && (state.owner === graph || state.owner === backend))) {
    throw new DetailFlowError(
      'invalid-argument',
      'the graph keeps state: pass one made by createState() of this executable or of its backend',
    );
  }
  if (state.disposed) throw new DetailFlowError('closed', 'the state is disposed');
}

function evaluate(
  graph: Graph,
  fixed: ReadonlyMap<Value, ReferenceArray>,
  feeds: Tensors,
  state: ReferenceState | undefined,
): Record<string, Tensor> {
  const bindings = bindFeeds(graph, feeds);
  const values = new Map<Value, ReferenceArray>(fixed);
  for (const node of graph.nodes) {
    if (!values.has(node)) values.set(node, evaluateNode(node, values, feeds, state, bindings));
  }
  for (const [name, { before, after }] of graph.states) {
    state?.put(name, { ...(values.get(after) as ReferenceArray), dtype: before.dtype });
  }
  return Object.fromEntries(
    [...graph.outputs].map(([name, value]) => [
      name,
      toTensor(value.dtype, values.get(value) as ReferenceArray),
    ]),
  );
}

function evaluateNode(
  node: Value,
  values: ReadonlyMap<Value, ReferenceArray>,
  feeds: Tensors,
  state: ReferenceState | undefined,
  bindings: Bindings,
): ReferenceArray {
  const shape = evaluateShape(node.shape, bindings);
  const name = node.attrs.name as string;
  if (node.op === 'input') return { data: hold(feeds[name].data as Float32Array), shape };
  if (node.op === 'constant') return { data: hold(node.attrs.data as Float32Array), shape };
  if (node.op === 'state') {
    return requireBuffer(name, state?.get(name), node.dtype, shape);
  }
  const definition = operations.get(node.op);
  if (!definition?.evaluate)
    throw new DetailFlowError('unsupported', `the operation "${node.op}" has no meaning here`);
  const inputs = node.inputs.map((input) => values.get(input) as ReferenceArray);
  return { data: definition.evaluate(inputs, node.attrs, { shape, dtype: node.dtype, bindings }), shape };
}

/** A copy of a tensor. */
function holdTensor({ type, data, dims }: Tensor): Held {
  const dtype = type === 'float32' ? 'f32' : type === 'int32' ? 'i32' : 'bool';
  return { data: hold((data as Float32Array).slice()), shape: dims, dtype };
}

function hold(data: Float32Array | Float64Array | Int32Array | Uint8Array): ReferenceArray['data'] {
  return data instanceof Float32Array ? Float64Array.from(data) : data;
}

function toTensor(dtype: DType, { data, shape }: ReferenceArray): Tensor {
  const type = tensorTypes[dtype];
  if (type === 'float32') return new Tensor('float32', Float32Array.from(data), shape);
  return type === 'int32'
    ? new Tensor('int32', Int32Array.from(data), shape)
    : new Tensor('bool', Uint8Array.from(data), shape);
}
