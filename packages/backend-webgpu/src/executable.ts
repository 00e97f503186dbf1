import {
  type Bindings,
  bindFeeds,
  checkOptions,
  DetailFlowError,
  type Executable,
  evaluateDim,
  evaluateShape,
  type Graph,
  type RunOptions,
  readFloat32,
  requireBuffer,
  type State,
  stridesOf,
  type Tensor,
  type Tensors,
  type TypedData,
  type Value,
  type Weights,
} from '@detailflow/core';
import type { Gpu, GpuArray } from './gpu';
import type { Kernel } from './kernel';
import { broadcastView, type View, wholeView } from './kernels/coordinates';
import { type Access, pointwiseKernel, pointwiseNumbers } from './kernels/pointwise';
import { runOperation, shapeIn } from './operations';
import { type Leaf, type Plan, planGraph, type Step, sourcesOf } from './plan';
import { sizeOf } from './size';
import { type StateBuffer, toTensor, WebGPUState } from './state';

/** What an executable needs of its backend. */
export interface Host {
  readonly gpu: Gpu;
  /** Jobs run one after the other; a failed one does not stop the next. @throws DetailFlowError when the device is gone */
  readonly queue: <T>(job: () => Promise<T>) => Promise<T>;
  readonly owner: object;
}

/** Uploads the weights and constants of a graph, and makes it ready to run. */
export async function compileGraph(graph: Graph, weights: Weights, host: Host): Promise<Executable> {
  const fixed = new Map<Value, GpuArray>();
  const release = () => {
    for (const array of fixed.values()) host.gpu.release(array);
    fixed.clear();
  };
  try {
    for (const [name, value] of graph.weights) {
      host.gpu.requireRoom(sizeOf(value.shape as number[]), `the weight "${name}"`);
      const data = await readFloat32(weights.get(name) as NonNullable<ReturnType<Weights['get']>>);
      fixed.set(value, await host.queue(async () => host.gpu.upload(data)));
    }
    for (const value of graph.nodes.filter(({ op }) => op === 'constant')) {
      const data = value.attrs.data as TypedData;
      const values = data instanceof Float64Array ? Float32Array.from(data) : data.slice();
      fixed.set(value, await host.queue(async () => host.gpu.upload(values as Float32Array)));
    }
  } catch (error) {
    release();
    throw error;
  }
  return new WebGPUExecutable(graph, fixed, host, release);
}

class WebGPUExecutable implements Executable {
  readonly #graph: Graph;
  readonly #plan: Plan;
  readonly #fixed: ReadonlyMap<Value, GpuArray>;
  readonly #kernels = new Map<string, Kernel>();
  readonly #host: Host;
  readonly #release: () => void;
  #disposed = false;

  constructor(graph: Graph, fixed: ReadonlyMap<Value, GpuArray>, host: Host, release: () => void) {
    this.#graph = graph;
    this.#fixed = fixed;
    this.#host = host;
    this.#release = release;
    this.#plan = planGraph(graph);
  }

  async run(feeds: Tensors, options: RunOptions = {}): Promise<Record<string, Tensor>> {
    checkOptions('run', options, { state: true, signal: true });
    const { state, signal } = options;
    return this.#host.queue(async () => {
      signal?.throwIfAborted();
      this.#requireOpen();
      const buffers = this.#buffers(state);
      const bindings = bindFeeds(this.#graph, feeds);
      const run = new Run(this.#host.gpu, this.#graph, bindings, buffers);
      try {
        run.place(this.#fixed, feeds);
        for (const [i, step] of this.#plan.steps.entries()) {
          run.take(step, this.#kernels);
          run.drop(this.#plan, i);
        }
        const outputs = await run.read();
        run.commit();
        return outputs;
      } finally {
        run.releaseAll();
      }
    });
  }

  createState(dims: Bindings): Promise<State> {
    return this.#host.queue(async () => {
      this.#requireOpen();
      const { gpu, queue } = this.#host;
      const buffers = new Map<string, StateBuffer>();
      try {
        for (const [name, { before }] of this.#graph.states) {
          const shape = evaluateShape(before.shape, dims);
          const array = gpu.zeros(sizeOf(shape), before.dtype === 'f32' ? 'float32' : 'int32');
          buffers.set(name, { shape, dtype: before.dtype, array });
        }
      } catch (error) {
        for (const { array } of buffers.values()) gpu.release(array);
        throw error;
      }
      return new WebGPUState({ owner: this, buffers, gpu, queue });
    });
  }

  /** Frees what it holds on the device. */
  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    await this.#host.queue(async () => this.#release()).catch(() => {}); // the device is gone, and all with it
  }

  #requireOpen(): void {
    if (this.#disposed) throw new DetailFlowError('closed', 'the executable is disposed');
  }

  #buffers(state: State | undefined): ReadonlyMap<string, StateBuffer> {
    if (this.#graph.states.size === 0) return new Map();
    const isOurs = state instanceof WebGPUState && (state.owner === this || state.owner === this.#host.owner);
    if (!isOurs) {
      throw new DetailFlowError(
        'invalid-argument',
        'the graph keeps state: pass one made by createState() of this executable or of its backend',
      );
    }
    if (state.disposed) throw new DetailFlowError('closed', 'the state is disposed');
    return state.buffers;
  }
}

/** One run: the arrays of all values that are still needed. */
class Run {
  readonly #gpu: Gpu;
  readonly #graph: Graph;
  readonly #bindings: Bindings;
  readonly #buffers: ReadonlyMap<string, StateBuffer>;
  readonly #arrays = new Map<Value, GpuArray>();
  /** States whose arrays were written over in place. */
  readonly #kept: ReadonlySet<Value>;

  constructor(gpu: Gpu, graph: Graph, bindings: Bindings, buffers: ReadonlyMap<string, StateBuffer>) {
    this.#gpu = gpu;
    this.#graph = graph;
    this.#bindings = bindings;
    this.#buffers = buffers;
    this.#kept = new Set([
      ...graph.outputs.values(),
      ...[...graph.states.values()].map(({ after }) => after),
    ]);
  }

  /** Takes weights and constants, uploads the feeds, and finds the states. */
  place(fixed: ReadonlyMap<Value, GpuArray>, feeds: Tensors): void {
    for (const [value, array] of fixed) this.#arrays.set(value, this.#gpu.hold(array));
    for (const [name, { before }] of this.#graph.states) {
      const shape = shapeIn(before, this.#bindings);
      const buffer = requireBuffer(name, this.#buffers.get(name), before.dtype, shape);
      this.#arrays.set(before, this.#gpu.hold(buffer.array));
    }
    for (const [name, value] of this.#graph.inputs) {
      this.#arrays.set(value, this.#gpu.upload((feeds[name].data as Float32Array).slice()));
    }
  }

  take(step: Step, kernels: Map<string, Kernel>): void {
    const { value } = step;
    if (step.kind === 'alias') {
      this.#arrays.set(value, this.#gpu.hold(this.#array(step.source)));
      return;
    }
    const shape = shapeIn(value, this.#bindings);
    if (step.kind === 'pointwise') {
      this.#arrays.set(value, this.#pointwise(step, shape, kernels));
      return;
    }
    const inputs = value.inputs.map((input) => ({
      array: this.#array(input),
      shape: shapeIn(input, this.#bindings),
    }));
    this.#arrays.set(
      value,
      runOperation({
        ...{ gpu: this.#gpu, value, inputs, shape, bindings: this.#bindings },
        mayOverwrite: this.#mayOverwrite(value),
      }),
    );
  }

  /** Lets go of what no later step and no output needs. */
  drop({ lastUses, steps }: Plan, at: number): void {
    const sources = sourcesOf(steps[at]);
    for (const source of new Set(sources)) {
      const array = this.#arrays.get(source);
      if (!array || lastUses.get(source) !== at || this.#kept.has(source)) continue;
      this.#arrays.delete(source);
      this.#gpu.release(array);
    }
  }

  async read(): Promise<Record<string, Tensor>> {
    const read = async ([name, value]: [string, Value]) => {
      const values = await this.#gpu.read(this.#array(value));
      return [name, toTensor(value.dtype, shapeIn(value, this.#bindings), values)] as const;
    };
    return Object.fromEntries(await Promise.all([...this.#graph.outputs].map(read)));
  }

  /** States get their new arrays. */
  commit(): void {
    for (const [name, { before, after }] of this.#graph.states) {
      const buffer = this.#buffers.get(name) as StateBuffer;
      if (after === before) continue;
      const array = this.#gpu.hold(this.#array(after));
      this.#gpu.release(buffer.array);
      buffer.array = array;
    }
  }

  releaseAll(): void {
    for (const array of this.#arrays.values()) this.#gpu.release(array);
    this.#arrays.clear();
  }

  #array(value: Value): GpuArray {
    return this.#arrays.get(value) as GpuArray;
  }

  /** A state that this value follows, held by nobody but the state and this run, is written over. */
  #mayOverwrite(value: Value): boolean {
    const [first] = value.inputs;
    if (first?.op !== 'state') return false;
    const pair = this.#graph.states.get(first.attrs.name as string);
    return pair?.after === value && this.#array(first).holders === 2;
  }

  #pointwise(
    { value, leaves, expression }: Extract<Step, { kind: 'pointwise' }>,
    shape: readonly number[],
    kernels: Map<string, Kernel>,
  ): GpuArray {
    const views = leaves.map((leaf) => broadcastView(this.#view(leaf), shape));
    const whole = stridesOf(shape).join();
    const accesses = views.map((view, k): Access => {
      const { size } = this.#array(leaves[k].source);
      if (size === 1) return 'single';
      const isSame = view.offset === 0 && size === sizeOf(shape) && sameStrides(view, shape, whole);
      return isSame ? 'same' : 'view';
    });
    const key = `${value.id} ${accesses.join()}`;
    const kernel = kernels.get(key) ?? pointwiseKernel(expression, accesses, shape.length);
    kernels.set(key, kernel);
    return this.#gpu.dispatch(
      kernel,
      leaves.map(({ source }) => this.#array(source)),
      {
        size: sizeOf(shape),
        type: value.dtype === 'f32' ? 'float32' : 'int32',
        numbers: pointwiseNumbers(
          shape,
          views.filter((_, k) => accesses[k] === 'view'),
        ),
      },
    );
  }

  #view({ source, views }: Leaf): View {
    let view = wholeView(shapeIn(source, this.#bindings));
    for (const { op, attrs, shape: dims } of views) {
      const shape = evaluateShape(dims, this.#bindings);
      if (op === 'transpose') {
        const permutation = attrs.permutation as number[];
        view = { ...view, shape, strides: permutation.map((axis) => view.strides[axis]) };
      } else if (op === 'broadcastTo') {
        view = broadcastView(view, shape);
      } else {
        const axis = attrs.axis as number;
        const start = evaluateDim(attrs.start as Parameters<typeof evaluateDim>[0], this.#bindings);
        view = { shape, strides: view.strides, offset: view.offset + start * view.strides[axis] };
      }
    }
    return view;
  }
}

/** Whether a view reads as the array lies; axes of extent 1 do not matter. */
function sameStrides({ strides }: View, shape: readonly number[], whole: string): boolean {
  if (strides.join() === whole) return true;
  const own = stridesOf(shape);
  return shape.every((extent, axis) => extent === 1 || strides[axis] === own[axis]);
}
