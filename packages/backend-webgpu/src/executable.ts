import {
  type Bindings,
  bindFeeds,
  checkOptions,
  DetailFlowError,
  type Executable,
  evaluateShape,
  type Graph,
  type RunOptions,
  requireBuffer,
  type State,
  type Tensor,
  type Tensors,
  type TypedData,
  type Value,
  type Weights,
} from '@detailflow/core';
import { type HeldDType, weightReader } from './device-weight';
import type { Gpu, GpuArray } from './gpu';
import { type Lowered, lowerPlan } from './lower';
import { shapeIn } from './operations';
import { type Plan, planGraph } from './plan';
import type { RunArrays } from './program';
import { sizeOf } from './size';
import { type StateBuffer, toTensor, WebGPUState } from './state';

/** What an executable needs of its backend. */
export interface Host {
  readonly gpu: Gpu;
  /** Jobs run one after the other; a failed one does not stop the next. @throws DetailFlowError when the device is gone */
  readonly queue: <T>(job: () => Promise<T>) => Promise<T>;
  readonly owner: object;
  /** Takes a fault of the device that nobody waits for: the next job tells it. */
  readonly report: (fault: DetailFlowError) => void;
}

/** Programs that an executable keeps, one for each set of extents; the one not used for longest goes first. */
const MOST_PROGRAMS = 64;

/** Uploads the weights and constants of a graph, and makes it ready to run. */
export async function compileGraph(
  graph: Graph,
  weights: Weights,
  { host, dtype }: { host: Host; dtype: HeldDType },
): Promise<Executable> {
  const { gpu } = host;
  const fixed = new Map<Value, GpuArray>();
  const release = () => {
    for (const array of fixed.values()) gpu.release(array);
    fixed.clear();
  };
  const place = (value: Value, values: Float32Array | Int32Array | Uint16Array) =>
    host.queue(async () => {
      const { result, fault } = gpu.watch(() => gpu.upload(values));
      fixed.set(value, result);
      const found = await fault;
      if (found) throw found;
    });
  const reader = weightReader(graph, weights, dtype);
  try {
    for (const [name, value] of graph.weights) {
      const type = reader.isHalf(name) ? 'float16' : 'float32';
      gpu.requireRoom(sizeOf(value.shape as number[]), `the weight "${name}"`, type);
      await place(value, await reader.read(name));
    }
    for (const value of graph.nodes.filter(({ op }) => op === 'constant')) {
      const data = value.attrs.data as TypedData;
      await place(value, data instanceof Float64Array ? Float32Array.from(data) : (data as Float32Array));
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
  readonly #programs = new Map<string, Lowered>();
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
      this.#requireStates(buffers, bindings);
      const { gpu } = this.#host;
      const { result, fault } = gpu.watch(() => {
        const lowered = this.#lowered(bindings);
        return { lowered, values: this.#record(lowered, feeds, buffers) };
      });
      const { lowered, values } = result;
      if (!values) {
        // Nobody waits for the device, so what it objects to is told later.
        fault.then((found) => found && this.#host.report(found));
        return {};
      }
      const [found] = await Promise.all([fault, values.catch(() => {})]);
      if (found) throw found;
      const read = await values;
      return Object.fromEntries(
        lowered.outputs.map(({ name, value, shape }, i) => [name, toTensor(value.dtype, shape, read[i])]),
      );
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

  #requireStates(buffers: ReadonlyMap<string, StateBuffer>, bindings: Bindings): void {
    for (const [name, { before }] of this.#graph.states) {
      requireBuffer(name, buffers.get(name), before.dtype, shapeIn(before, bindings));
    }
  }

  /** The program for these extents. */
  #lowered(bindings: Bindings): Lowered {
    const key = JSON.stringify(bindings);
    const lowered =
      this.#programs.get(key) ??
      lowerPlan(this.#graph, this.#plan, bindings, { gpu: this.#host.gpu, fixed: this.#fixed });
    this.#programs.delete(key);
    this.#programs.set(key, lowered);
    if (this.#programs.size > MOST_PROGRAMS) {
      const [oldest] = this.#programs.keys();
      this.#programs.delete(oldest);
    }
    return lowered;
  }

  /** Brings the feeds, records and submits all kernels, without waiting. @returns the outputs to come, if there are any */
  #record(
    { program, brought, outputs, replaced, overwritten }: Lowered,
    feeds: Tensors,
    buffers: ReadonlyMap<string, StateBuffer>,
  ): ReturnType<Gpu['read']> | undefined {
    const { gpu } = this.#host;
    const started = performance.now();
    const arrays: RunArrays = new Array(program.places);
    const place = (value: Value, array: GpuArray) => {
      arrays[brought.get(value) as number] = array;
    };
    try {
      for (const [name, value] of this.#graph.inputs)
        place(value, gpu.upload(feeds[name].data as Float32Array));
      for (const [value, array] of this.#fixed) place(value, gpu.hold(array));
      for (const name of overwritten) own(gpu, buffers.get(name) as StateBuffer);
      for (const [name, { before }] of this.#graph.states) {
        place(before, gpu.hold((buffers.get(name) as StateBuffer).array));
      }
      program.run(arrays);
      const read = outputs.map((output) => arrays[output.place] as GpuArray);
      const values = read.length > 0 ? gpu.read(read) : undefined;
      gpu.submit();
      const fresh = replaced.map(({ name, place: at }) => ({
        name,
        array: gpu.hold(arrays[at] as GpuArray),
      }));
      for (const { name, array } of fresh) {
        const buffer = buffers.get(name) as StateBuffer;
        gpu.release(buffer.array);
        buffer.array = array;
      }
      return values;
    } finally {
      for (const array of arrays) if (array) gpu.release(array);
      gpu.counts.recordingMs += performance.now() - started;
    }
  }
}

/** A state that shares its array with another one gets its own, since it is about to be written over. */
function own(gpu: Gpu, buffer: StateBuffer): void {
  if (buffer.array.holders === 1) return;
  const array = gpu.copy(buffer.array);
  gpu.release(buffer.array);
  buffer.array = array;
}
