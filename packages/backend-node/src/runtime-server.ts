import type { StateEntries } from '@detailflow/core';
import ort from 'onnxruntime-node';
import type { Reply, Request, RuntimeSettings, WireState, WireTensor } from './protocol';
import { StateMemory } from './state-memory';

interface Session {
  readonly runtime: ort.InferenceSession;
  readonly states: readonly WireState[];
}

type Buffers = Map<string, WireTensor>;

/** Buffers of a state, and the runs that read them. */
interface KeptState {
  readonly buffers: Buffers;
  runs: number;
  /** Whether nothing but zeros was ever in it, and its memory may hold something else still. */
  isBlank: boolean;
  isDropped: boolean;
}

/** Sessions of ONNX Runtime, their state, and the requests that they answer. */
export class RuntimeServer {
  readonly #settings: RuntimeSettings;
  readonly #sessions = new Map<number, Session>();
  readonly #states = new Map<number, KeptState>();
  readonly #memory = new StateMemory();
  /** Weights of sessions that come in parts. */
  readonly #blocks = new Map<number, Uint8Array>();

  constructor(settings: RuntimeSettings) {
    this.#settings = settings;
  }

  async answer(id: number, request: Request): Promise<Reply> {
    try {
      return { id, tensors: await this.#answer(request) };
    } catch (error) {
      return { id, error: error instanceof Error ? error.message : String(error) };
    }
  }

  async #answer(request: Request): Promise<Record<string, WireTensor>> {
    switch (request.kind) {
      case 'fill': {
        const block = this.#blocks.get(request.session) ?? new Uint8Array(request.size);
        this.#blocks.set(request.session, block);
        block.set(request.data, request.at);
        return {};
      }
      case 'load':
        await this.#load(request);
        return {};
      case 'run':
        return this.#run(request);
      case 'create-state': {
        const given = Object.entries(request.buffers);
        const isBlank = given.every(([, { data }]) => data === undefined);
        const buffers: Buffers = new Map();
        for (const [name, { type, dims, data }] of given) {
          const taken = data ?? this.#memory.take(type, dims);
          if (!data && !isBlank) this.#memory.clean(taken);
          buffers.set(name, { type, data: taken, dims });
        }
        this.#states.set(request.state, { buffers, runs: 0, isBlank, isDropped: false });
        return {};
      }
      case 'read-state': {
        const buffer = this.#stateOf(request.state).buffers.get(request.name);
        if (!buffer) throw new Error(`there is no state "${request.name}"`);
        return { value: { ...buffer, data: buffer.data.slice() } };
      }
      case 'write-state':
        this.#stateOf(request.state).buffers.set(request.name, request.tensor);
        return {};
      case 'copy-entry': {
        for (const buffer of this.#stateOf(request.state).buffers.values()) {
          const source = entriesOf(buffer, { first: request.from, count: 1 });
          entriesOf(buffer, { first: request.to, count: 1 }).data.set(source.data);
        }
        return {};
      }
      case 'resize-state': {
        const { axis, extent, entries } = request;
        const state = this.#states.get(request.state);
        if (!state) throw new Error('the state is disposed');
        for (const [name, buffer] of state.buffers) {
          state.buffers.set(
            name,
            resized(buffer, { axis, extent, entries: state.isBlank ? NO_ENTRIES : entries }),
          );
        }
        return {};
      }
      case 'drop-state': {
        const state = this.#states.get(request.state);
        this.#states.delete(request.state);
        if (state) {
          state.isDropped = true;
          this.#giveBack(state);
        }
        return {};
      }
      case 'release': {
        const session = this.#sessions.get(request.session);
        this.#sessions.delete(request.session);
        if (this.#settings.profile) session?.runtime.endProfiling();
        await session?.runtime.release();
        this.#memory.clear();
        return {};
      }
    }
  }

  async #load(request: Extract<Request, { kind: 'load' }>): Promise<void> {
    const { device, threads, profile } = this.#settings;
    const data = request.memory?.data ?? this.#blocks.get(request.session);
    this.#blocks.delete(request.session);
    const runtime = await ort.InferenceSession.create(request.model, {
      executionProviders: [device],
      intraOpNumThreads: threads,
      interOpNumThreads: 1,
      graphOptimizationLevel: 'all',
      // A pattern is one piece of all the memory that a run needs, beside the pieces that the first run took.
      enableMemPattern: false,
      logSeverityLevel: 3,
      ...(profile && { enableProfiling: true, profileFilePrefix: profile }),
      ...(request.memory && data && { externalData: [{ path: request.memory.name, data }] }),
      ...(request.folder && {
        extra: { session: { model_external_initializers_file_folder_path: request.folder } },
      }),
    });
    this.#sessions.set(request.session, { runtime, states: request.states });
  }

  async #run(request: Extract<Request, { kind: 'run' }>): Promise<Record<string, WireTensor>> {
    const session = this.#sessions.get(request.session);
    if (!session) throw new Error('the session is not loaded');
    const state = request.state === undefined ? undefined : this.#stateOf(request.state);
    if (state) state.runs++;
    try {
      return await this.#runWith(session, state?.buffers, request);
    } finally {
      if (state) {
        state.runs--;
        this.#giveBack(state);
      }
    }
  }

  async #runWith(
    session: Session,
    buffers: Buffers | undefined,
    request: Extract<Request, { kind: 'run' }>,
  ): Promise<Record<string, WireTensor>> {
    const feeds: Record<string, ort.Tensor> = {};
    for (const [name, feed] of Object.entries(request.feeds)) feeds[name] = toOrt(feed);
    for (const { name, input } of session.states) {
      const buffer = buffers?.get(name);
      if (!buffer) throw new Error(`the run needs the state "${name}"`);
      feeds[input] = toOrt(request.window ? entriesOf(buffer, request.window) : buffer);
    }
    const results = await session.runtime.run(feeds);
    for (const state of session.states) bringUpToDate(state, buffers as Buffers, results, request.window);
    return Object.fromEntries(
      request.outputs.map((name) => {
        const { type, data, dims } = results[name];
        return [name, { type, data: data.slice() as Float32Array, dims } as WireTensor];
      }),
    );
  }

  /** The memory of a dropped state, once no run reads it any more. */
  #giveBack({ buffers, runs, isDropped }: KeptState): void {
    if (isDropped && runs === 0) this.#memory.giveBack([...buffers.values()].map(({ data }) => data));
  }

  #stateOf(id: number): KeptState {
    const state = this.#states.get(id);
    if (!state) throw new Error('the state is disposed');
    if (state.isBlank) {
      for (const { data } of state.buffers.values()) this.#memory.clean(data);
      state.isBlank = false;
    }
    return state;
  }
}

/** Of a state that holds nothing but zeros. */
const NO_ENTRIES: StateEntries = { first: 0, count: 0 };

/** A buffer whose axis has another extent, in its own memory where that is large enough. */
function resized(
  { type, data, dims }: WireTensor,
  {
    axis,
    extent,
    entries,
  }: { readonly axis: number; readonly extent: number; readonly entries?: StateEntries },
): WireTensor {
  const inner = dims.slice(axis + 1).reduce((a, b) => a * b, 1);
  const outer = dims.slice(0, axis).reduce((a, b) => a * b, 1);
  const [before, after] = [dims[axis] * inner, extent * inner];
  const both = arrayOver(data, outer * Math.max(before, after));
  if (both.buffer !== data.buffer) both.set(data);
  const ofEntry = dims.slice(1, axis).reduce((a, b) => a * b, 1);
  const [first, end] =
    entries && axis > 0 ? [entries.first * ofEntry, (entries.first + entries.count) * ofEntry] : [0, outer];
  const blocks = Array.from({ length: end - first }, (_, i) => first + i);
  if (after > before) blocks.reverse(); // so that nothing is written over that is still to be moved
  for (const i of blocks) {
    const kept = Math.min(before, after);
    both.copyWithin(i * after, i * before, i * before + kept);
    both.fill(0, i * after + kept, (i + 1) * after);
  }
  return { type, data: both.subarray(0, outer * after), dims: dims.with(axis, extent) };
}

/** Another length of the memory of an array, or new memory where it has not as much. */
function arrayOver(array: WireTensor['data'], length: number): WireTensor['data'] {
  const { buffer, byteOffset, BYTES_PER_ELEMENT } = array;
  const Kind = array.constructor as Float32ArrayConstructor;
  const fits = byteOffset + length * BYTES_PER_ELEMENT <= buffer.byteLength;
  return fits ? new Kind(buffer as ArrayBuffer, byteOffset, length) : new Kind(length);
}

const toOrt = ({ type, data, dims }: WireTensor): ort.Tensor =>
  new ort.Tensor(type as 'float32', data as Float32Array, dims);

/** Some entries of the first axis of a buffer, in the same memory. */
function entriesOf({ type, data, dims }: WireTensor, { first, count }: StateEntries): WireTensor {
  const size = dims.slice(1).reduce((a, b) => a * b, 1);
  return { type, data: data.subarray(first * size, (first + count) * size), dims: [count, ...dims.slice(1)] };
}

/** Takes over a new state, or writes the new rows into the buffer, which nobody reads any more. */
function bringUpToDate(
  state: WireState,
  buffers: Buffers,
  results: ort.InferenceSession.ReturnType,
  window: StateEntries | undefined,
): void {
  if (state.output === undefined) return;
  const whole = buffers.get(state.name) as WireTensor;
  const buffer = window ? entriesOf(whole, window) : whole;
  const next = results[state.output];
  const data = next.data as Float32Array;
  if (!state.rows) {
    if (window) buffer.data.set(data);
    else buffers.set(state.name, { ...buffer, data });
    return;
  }
  const { axis, offset } = state.rows;
  const { data: at, dims } = results[offset];
  const [size, count] = [buffer.dims[axis], next.dims[axis]];
  const inner = buffer.dims.slice(axis + 1).reduce((a, b) => a * b, 1);
  const blocks = data.length / Math.max(1, count * inner);
  const ofEach = dims.length === 2; // a place for each row of each entry
  const blocksOfEntry = buffer.dims.slice(1, axis).reduce((a, b) => a * b, 1);
  const places = at as Int32Array;
  const outside = places.find((place) => place < 0 || place + (ofEach ? 1 : count) > size);
  if (outside !== undefined) {
    throw new Error(
      `rows ${outside}..${outside + (ofEach ? 1 : count)} do not fit the state "${state.name}" of ${size} rows`,
    );
  }
  // Places that follow each other are written at once.
  const spans = ofEach
    ? Array.from({ length: places.length / count }, (_, entry) =>
        spansOf(places.subarray(entry * count, (entry + 1) * count)),
      )
    : [[{ from: 0, to: places[0], count }]];
  for (let block = 0; block < blocks; block++) {
    const [start, first] = [block * size, block * count];
    for (const span of ofEach ? spans[Math.floor(block / blocksOfEntry)] : spans[0]) {
      const from = (first + span.from) * inner;
      buffer.data.set(data.subarray(from, from + span.count * inner), (start + span.to) * inner);
    }
  }
}

/** Rows and the places that they go to, both in a row. */
function spansOf(
  places: Int32Array,
): { readonly from: number; readonly to: number; readonly count: number }[] {
  const starts = [...places.keys()].filter((i) => i === 0 || places[i] !== places[i - 1] + 1);
  return starts.map((from, i) => ({
    from,
    to: places[from],
    count: (starts[i + 1] ?? places.length) - from,
  }));
}
