import { availableParallelism } from 'node:os';
import {
  type Backend,
  type Bindings,
  bindFeeds,
  type CompileOptions,
  checkOptions,
  DetailFlowError,
  describe,
  type Executable,
  evaluateShape,
  type Graph,
  type RunOptions,
  requireBuffer,
  requireWeights,
  type State,
  type Tensor,
  type Tensors,
  tensorTypes,
  type Weights,
} from '@detailflow/core';
import { type OnnxModel, toOnnx } from '@detailflow/onnx';
import { isExact, levelsTrial } from './levels-trial';
import { makeState, NodeState } from './node-state';
import { requireOwnFiles } from './own-files';
import { placeWeights } from './place-weights';
import { probeDevice } from './probe';
import type { NodeDevice, WireTensor } from './protocol';
import { fromTensor, toTensor } from './wire-tensor';
import { WorkerClient } from './worker-client';

/** Options of {@link createNodeBackend}. */
export interface NodeBackendOptions {
  /**
   * Where to compute. 'auto' takes CUDA or WebGPU when a trial run beats the CPU, else the CPU.
   * Default: 'cpu'.
   */
  readonly device?: NodeDevice | 'auto';
  /** Threads of the CPU device, 1 to 1024; at most the cores of this machine are used. Default: those cores. */
  readonly threads?: number;
  /**
   * Writes where the time of each graph goes: the beginning of the paths of files in the format of Chrome's trace viewer,
   * one a graph, complete when its executable is disposed of. Slows small operations down. Default: none.
   */
  readonly profile?: string;
  /** Takes one-line notices: 'auto' settles for the CPU, fewer threads than asked for. Default: standard error. */
  readonly onNotice?: (message: string) => void;
}

/**
 * A backend that runs graphs with ONNX Runtime in a worker thread, so that the event loop stays free; one on a GPU runs
 * them in a process of its own, so that a driver that crashes ends in an error (`device-lost`), and so does one that is
 * made in a worker thread, so that the thread may be terminated. Turns ONNX Runtime's telemetry
 * off (`ORT_DISABLE_TELEMETRY=1`), unless the environment already says something else.
 * @throws DetailFlowError `device-unavailable` when the device asked for cannot be used, with the reason and the way to get it;
 *   `unsupported` inside a bundle
 * @see https://detailflow.github.io/detailflow-ts/guide/dtype-and-device.html
 */
export async function createNodeBackend(options: NodeBackendOptions = {}): Promise<Backend> {
  requireOwnFiles();
  checkOptions('createNodeBackend', options, { device: true, threads: true, profile: true, onNotice: true });
  const cores = availableParallelism();
  const { threads = cores, onNotice = (message: string) => process.stderr.write(`${message}\n`) } = options;
  if (!Number.isInteger(threads) || threads < 1 || threads > 1024) {
    throw new DetailFlowError(
      'invalid-argument',
      `threads is ${describe(options.threads)}; give a whole number from 1 to 1024`,
    );
  }
  if (threads > cores) {
    onNotice(`DetailFlow uses ${cores} of the ${threads} threads asked for: there are no more cores`);
  }
  const device = await chooseDevice(options.device, onNotice);
  const settings = { device, threads: Math.min(threads, cores), profile: options.profile };
  return new NodeBackend(device, new WorkerClient(settings));
}

const remedies: Readonly<Record<'cuda' | 'webgpu', string>> = {
  cuda:
    'CUDA needs Linux on x64, an NVIDIA GPU with CUDA 12 and cuDNN 9, and the CUDA libraries of onnxruntime-node: ' +
    'run "node node_modules/onnxruntime-node/script/install.js --onnxruntime-node-install=cuda12"',
  webgpu: 'WebGPU needs a graphics driver (on Linux: Vulkan, package libvulkan1, and the driver of your GPU)',
};

async function chooseDevice(
  device: NodeBackendOptions['device'] = 'cpu',
  onNotice: (message: string) => void,
): Promise<NodeDevice> {
  if (device === 'cpu') return 'cpu';
  if (device === 'cuda' || device === 'webgpu') {
    const probe = await probeDevice(device);
    if (probe.usable) return device;
    throw new DetailFlowError(
      'device-unavailable',
      `the device "${device}" cannot be used: ${probe.reason}. ${remedies[device]}; or choose device "cpu".`,
    );
  }
  if (device !== 'auto') {
    throw new DetailFlowError(
      'invalid-argument',
      `the device is ${describe(device)}; give cpu, cuda, webgpu or auto`,
    );
  }
  const reasons: string[] = [];
  for (const candidate of ['cuda', 'webgpu'] as const) {
    const probe = await probeDevice(candidate);
    if (probe.usable && probe.relativeTime < 0.8) return candidate;
    reasons.push(`${candidate}: ${probe.usable ? 'slower than the CPU' : firstLine(probe.reason)}`);
  }
  onNotice(`DetailFlow runs on the CPU (${reasons.join('; ')})`);
  return 'cpu';
}

const firstLine = (text: string) => text.split('\n')[0].slice(0, 120);

class NodeBackend implements Backend {
  readonly name: NodeDevice;
  readonly stateWindows = true;
  readonly #worker: WorkerClient;
  #nextId = 0;
  #triedLevels?: Promise<'signed' | 'unsigned'>;

  constructor(device: NodeDevice, worker: WorkerClient) {
    this.name = device;
    this.#worker = worker;
  }

  async compile(graph: Graph, weights: Weights, options: CompileOptions = {}): Promise<Executable> {
    checkOptions('compile', options, { dtype: true });
    this.#worker.requireOpen();
    requireWeights(graph, weights);
    const placed = await placeWeights(graph, weights, {
      ...{ dtype: options.dtype, rows: this.name === 'cpu', levels: () => this.#levels() },
    });
    try {
      const { folder, memory, place: placeWeight, quantised } = placed;
      const target = this.name === 'webgpu' ? 'webgpu' : 'any';
      const model = toOnnx(graph, {
        ...{ dialect: 'onnxruntime', target, rowUpdates: true, placeWeight, quantised },
      });
      const session = this.#nextId++;
      await this.#worker.send(
        { kind: 'load', session, model: model.bytes, folder, memory, states: model.states },
        memory ? [memory.data.buffer] : [],
      );
      return new NodeExecutable(this, graph, model, session, this.#worker, () => this.#nextId++);
    } finally {
      await placed.release();
    }
  }

  /** How levels of rows have to be given here, tried out once. */
  #levels(): Promise<'signed' | 'unsigned'> {
    this.#triedLevels ??= this.#tryLevels();
    return this.#triedLevels;
  }

  async #tryLevels(): Promise<'signed' | 'unsigned'> {
    const trial = levelsTrial();
    const model = toOnnx(trial.graph, { dialect: 'onnxruntime', ...trial.weights });
    const session = this.#nextId++;
    await this.#worker.send({ kind: 'load', session, model: model.bytes, states: [] });
    const { sums } = await this.#worker.send({
      ...{ kind: 'run', session, outputs: ['sums'] },
      feeds: { ones: fromTensor(trial.ones) },
    });
    await this.#worker.free({ kind: 'release', session });
    return isExact(sums.data) ? 'signed' : 'unsigned';
  }

  async createState(tensors: Tensors): Promise<State> {
    this.#worker.requireOpen();
    const buffers = Object.entries(tensors).map(([name, tensor]) => [name, fromTensor(tensor)] as const);
    return makeState(this.#nextId++, this, Object.fromEntries(buffers), this.#worker);
  }

  /** Frees what it holds, files included. */
  async close(): Promise<void> {
    await this.#worker.close();
  }

  /** Frees it at the end of an `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

class NodeExecutable implements Executable {
  readonly #backend: NodeBackend;
  readonly #graph: Graph;
  readonly #model: OnnxModel;
  readonly #session: number;
  readonly #worker: WorkerClient;
  readonly #newId: () => number;
  #disposed = false;

  constructor(
    backend: NodeBackend,
    graph: Graph,
    model: OnnxModel,
    session: number,
    worker: WorkerClient,
    newId: () => number,
  ) {
    this.#backend = backend;
    this.#graph = graph;
    this.#model = model;
    this.#session = session;
    this.#worker = worker;
    this.#newId = newId;
  }

  async run(feeds: Tensors, options: RunOptions = {}): Promise<Record<string, Tensor>> {
    checkOptions('run', options, { state: true, signal: true });
    const { state, signal } = options;
    signal?.throwIfAborted();
    if (this.#disposed) throw new DetailFlowError('closed', 'the executable is disposed');
    const bindings = bindFeeds(this.#graph, feeds);
    const kept = this.#graph.states.size > 0 ? this.#requireState(state, bindings) : undefined;
    const results = await this.#worker.send({
      kind: 'run',
      session: this.#session,
      feeds: Object.fromEntries(Object.entries(feeds).map(([name, tensor]) => [name, fromTensor(tensor)])),
      outputs: [...this.#graph.outputs.keys()],
      state: kept?.id,
      window: kept?.entries,
    });
    return Object.fromEntries(Object.entries(results).map(([name, wire]) => [name, toTensor(wire)]));
  }

  async createState(dims: Readonly<Record<string, number>>): Promise<State> {
    if (this.#disposed) throw new DetailFlowError('closed', 'the executable is disposed');
    const buffers = this.#model.states.map(({ name, dtype, shape }) => {
      const type = tensorTypes[dtype] as WireTensor['type'];
      return [name, { type, dims: evaluateShape(shape, dims) }] as const;
    });
    return makeState(this.#newId(), this, Object.fromEntries(buffers), this.#worker);
  }

  /** Frees what it holds on the device. */
  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    await this.#worker.free({ kind: 'release', session: this.#session });
  }

  #requireState(state: State | undefined, bindings: Bindings): NodeState {
    if (!(state instanceof NodeState && (state.owner === this || state.owner === this.#backend))) {
      throw new DetailFlowError(
        'invalid-argument',
        'the graph keeps state: pass one made by createState() of this executable or of its backend',
      );
    }
    state.requireOpen();
    for (const { name, dtype, shape } of this.#model.states) {
      requireBuffer(name, state.buffers.get(name), dtype, evaluateShape(shape, bindings));
    }
    return state;
  }
}
