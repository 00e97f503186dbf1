import type { Bindings } from './dim';
import type { Graph } from './graph';
import type { Tensor } from './tensor';
import type { Weights } from './weights';

/** Tensors by name: float32, int32 or bool, as the graph declares. */
export type Tensors = Readonly<Record<string, Tensor>>;

/** Entries of the first axis of the buffers of a state. */
export interface StateEntries {
  readonly first: number;
  readonly count: number;
}

/**
 * Buffers on the device that live from run to run: the KV cache of one generation, or the parameters and moments of a
 * training run. Disposed by who created them.
 */
export interface State {
  /** A copy of one buffer. @throws DetailFlowError `invalid-argument` when there is no such buffer */
  read(name: string): Promise<Tensor>;
  /** Replaces what a buffer holds. @throws DetailFlowError `shape` or `dtype` unless the tensor is like the buffer */
  write(name: string, tensor: Tensor): Promise<void>;
  /**
   * `count` entries of the first axis of every buffer, from `first` on, as a state over the same memory: runs of so many rows
   * change those rows alone. It ends with the whole state. Only where the backend has {@link Backend.stateWindows}.
   * @throws DetailFlowError `shape` when a buffer has no such entries
   */
  window?(first: number, count: number): State;
  /**
   * Copies entry `from` of the first axis of every buffer over entry `to`. Only as {@link State.window}.
   * @throws DetailFlowError `shape` when a buffer has no such entries
   */
  copyEntry?(from: number, to: number): Promise<void>;
  /**
   * Gives an axis of every buffer `extent` entries, 1 up to as many as the buffer was made with. Entries that are there
   * before and after stay as they are, further ones are zeros; windows change along. Not every backend can.
   * @param entries of the first axis that are needed still; what the others hold is not defined then. All unless given
   * @throws DetailFlowError `shape` when a buffer has no such axis or entries, or was made with fewer
   */
  resize?(axis: number, extent: number, entries?: StateEntries): Promise<void>;
  /** Frees what it holds on the device. */
  dispose(): Promise<void>;
}

/** State and signal of a run. */
export interface RunOptions {
  /**
   * Required when the graph has states; they are updated in place. Made by `createState` of this executable, or by
   * that of its backend, which may hold more buffers than the graph names.
   */
  readonly state?: State;
  /** Checked before the run starts. A run that has started finishes. */
  readonly signal?: AbortSignal;
}

/** A graph ready to run on a device. Runs of one executable queue up behind each other. */
export interface Executable {
  /**
   * @param feeds one tensor for each input; symbolic extents take their value from them
   * @throws DetailFlowError `shape` or `dtype` when a feed does not fit the graph, `runtime` when the device fails
   */
  run(feeds: Tensors, options?: RunOptions): Promise<Record<string, Tensor>>;
  /** Buffers of zeros; `dims` gives the symbols in their shapes a value. */
  createState(dims: Bindings): Promise<State>;
  /** Frees what it holds on the device. */
  dispose(): Promise<void>;
}

/** How the matrices of a model are held while it runs: as float32, as halves, or rounded to 8 or 4 bits. */
export type WeightDType = 'fp32' | 'fp16' | 'q8' | 'q4';

/** How a graph is compiled. */
export interface CompileOptions {
  /**
   * Default: as the weights are, which is 'fp32' unless they are stored rounded; something else is then refused (`dtype`). A
   * backend that cannot hold weights so throws `unsupported`, and computes with stored ones in float32. Weights stored in 16 bits
   * stay so on WebGPU.
   */
  readonly dtype?: WeightDType;
}

/**
 * A device that runs graphs. Chosen by value: `backend: await createNodeBackend()`.
 * @see https://detailflow.github.io/detailflow-ts/house/add-a-backend.html
 */
export interface Backend {
  /** For messages: 'reference', 'cpu', 'cuda', 'webgpu'. */
  readonly name: string;
  /** @throws DetailFlowError `weights` when the graph needs a weight that is missing or misshapen */
  compile(graph: Graph, weights: Weights, options?: CompileOptions): Promise<Executable>;
  /**
   * Buffers that executables of this backend share, holding copies of the tensors at first: what one graph computes
   * another goes on with, without leaving the device.
   */
  createState(tensors: Tensors): Promise<State>;
  /** Whether its states have windows, which batches need whose sequences come and go. */
  readonly stateWindows?: boolean;
  /** Frees everything; later calls throw `closed`. */
  close(): Promise<void>;
  /** Frees it at the end of an `await using`. */
  [Symbol.asyncDispose](): Promise<void>;
}
