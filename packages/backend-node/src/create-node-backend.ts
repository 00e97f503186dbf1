import { availableParallelism } from 'node:os';
import {
  type Backend,
  type Bindings,
  bindFeeds,
  type CompileOptions,
  DetailFlowError,
  type Executable,
  evaluateShape,
  type Graph,
  requireWeights,
  type State,
  Tensor,
  type Tensors,
  tensorTypes,
  type Weights,
} from '@detailflow/core';
import { type OnnxModel, toOnnx } from '@detailflow/onnx';
import { placeWeights } from './place-weights';
import { probeDevice } from './probe';
import type { NodeDevice, WireTensor } from './protocol';
import { WorkerClient } from './worker-client';

export interface NodeBackendOptions {
  /**
   * Where to compute. 'auto' takes CUDA or WebGPU when a trial run beats the CPU, else the CPU.
   * Default: 'cpu'.
   */
  readonly device?: NodeDevice | 'auto';
  /** Threads of the CPU device. Default: the cores of this machine. */
  readonly threads?: number;
  /** Takes the one-line notice when 'auto' settles for the CPU. Default: written to standard error. */
  readonly onNotice?: (message: string) => void;
}

/**
 * A backend that runs graphs with ONNX Runtime in a worker thread, so that the event loop stays free.
 * @throws DetailFlowError `device-unavailable` when the device asked for cannot be used, with the reason and the way to get it
 */
export async function createNodeBackend(options: NodeBackendOptions = {}): Promise<Backend> {
  const threads = options.threads ?? availableParallelism();
  if (!Number.isInteger(threads) || threads < 1 || threads > 1024) {
    throw new DetailFlowError(
      'invalid-argument',
      `threads is ${options.threads}; give a whole number from 1 to 1024`,
    );
  }
  const device = await chooseDevice(options);
  return new NodeBackend(device, new WorkerClient({ device, threads }));
}

const remedies: Readonly<Record<'cuda' | 'webgpu', string>> = {
  cuda:
    'CUDA needs Linux on x64, an NVIDIA GPU with CUDA 12 and cuDNN 9, and the CUDA libraries of onnxruntime-node: ' +
    'run "node node_modules/onnxruntime-node/script/install.js --onnxruntime-node-install=cuda12"',
  webgpu: 'WebGPU needs a graphics driver (on Linux: Vulkan, package libvulkan1, and the driver of your GPU)',
};

async function chooseDevice({ device = 'cpu', onNotice }: NodeBackendOptions): Promise<NodeDevice> {
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
      `the device is "${device}"; give cpu, cuda, webgpu or auto`,
    );
  }
  const reasons: string[] = [];
  for (const candidate of ['cuda', 'webgpu'] as const) {
    const probe = await probeDevice(candidate);
    if (probe.usable && probe.relativeTime < 0.8) return candidate;
    reasons.push(`${candidate}: ${probe.usable ? 'slower than the CPU' : firstLine(probe.reason)}`);
  }
  const notice = onNotice ?? ((message: string) => process.stderr.write(`${message}\n`));
  notice(`DetailFlow runs on the CPU (${reasons.join('; ')})`);
  return 'cpu';
}

const firstLine = (text: string) => text.split('\n')[0].slice(0, 120);

class NodeBackend implements Backend {
  readonly name: NodeDevice;
  readonly #worker: WorkerClient;
  #nextId = 0;

  constructor(device: NodeDevice, worker: WorkerClient) {
    this.name = device;
    this.#worker = worker;
  }

  async compile(
    graph: Graph,
    weights: Weights,
    { dtype = 'fp32' }: CompileOptions = {},
  ): Promise<Executable> {
    this.#worker.requireOpen();
    requireWeights(graph, weights);
    const { place: placeWeight, quantised, folder, memory } = await placeWeights(graph, weights, dtype);
    const model = toOnnx(graph, { dialect: 'onnxruntime', rowUpdates: true, placeWeight, quantised });
    const session = this.#nextId++;
    await this.#worker.send(
      { kind: 'load', session, model: model.bytes, folder, memory, states: model.states },
      memory ? [memory.data.buffer] : [],
    );
    return new NodeExecutable(graph, model, session, this.#worker, () => this.#nextId++);
  }

  async close(): Promise<void> {
    await this.#worker.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

class NodeExecutable implements Executable {
  readonly #graph: Graph;
  readonly #model: OnnxModel;
  readonly #session: number;
  readonly #worker: WorkerClient;
  readonly #newId: () => number;
  #disposed = false;

  constructor(graph: Graph, model: OnnxModel, session: number, worker: WorkerClient, newId: () => number) {
    this.#graph = graph;
    this.#model = model;
    this.#session = session;
    this.#worker = worker;
    this.#newId = newId;
  }

  async run(
    feeds: Tensors,
    { state, signal }: { state?: State; signal?: AbortSignal } = {},
  ): Promise<Record<string, Tensor>> {
    signal?.throwIfAborted();
    if (this.#disposed) throw new DetailFlowError('closed', 'the executable is disposed');
    const bindings = bindFeeds(this.#graph, feeds);
    const kept = this.#graph.states.size > 0 ? this.#requireState(state, bindings) : undefined;
    const results = await this.#worker.send({
      kind: 'run',
      session: this.#session,
      feeds: Object.fromEntries(
        Object.entries(feeds).map(([name, { type, data, dims }]) => [
          name,
          { type, data: wholeBuffer(data as Float32Array), dims } as WireTensor,
        ]),
      ),
      outputs: [...this.#graph.outputs.keys()],
      state: kept?.id,
    });
    return Object.fromEntries(Object.entries(results).map(([name, wire]) => [name, toTensor(wire)]));
  }

  async createState(dims: Readonly<Record<string, number>>): Promise<State> {
    if (this.#disposed) throw new DetailFlowError('closed', 'the executable is disposed');
    const id = this.#newId();
    const shapes = new Map(this.#model.states.map(({ name, shape }) => [name, evaluateShape(shape, dims)]));
    const buffers = this.#model.states.map(({ name, dtype }) => {
      const type = tensorTypes[dtype] as WireTensor['type'];
      return [name, { type, dims: shapes.get(name) as number[] }] as const;
    });
    await this.#worker.send({ kind: 'create-state', state: id, buffers: Object.fromEntries(buffers) });
    return new NodeState(id, this.#session, shapes, this.#worker);
  }

  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    await this.#worker.free({ kind: 'release', session: this.#session });
  }

  #requireState(state: State | undefined, bindings: Bindings): NodeState {
    if (!(state instanceof NodeState && state.session === this.#session)) {
      throw new DetailFlowError(
        'invalid-argument',
        'the graph keeps state: pass one made by createState() of this executable',
      );
    }
    state.requireOpen();
    for (const { name, shape } of this.#model.states) {
      const [made, needed] = [state.shapes.get(name), evaluateShape(shape, bindings)];
      if (made?.join() !== needed.join()) {
        throw new DetailFlowError('shape', `the state is [${made}], this run needs [${needed}]`, {
          entry: name,
        });
      }
    }
    return state;
  }
}

class NodeState implements State {
  readonly id: number;
  readonly session: number;
  readonly shapes: ReadonlyMap<string, readonly number[]>;
  readonly #worker: WorkerClient;
  #disposed = false;

  constructor(
    id: number,
    session: number,
    shapes: ReadonlyMap<string, readonly number[]>,
    worker: WorkerClient,
  ) {
    this.id = id;
    this.session = session;
    this.shapes = shapes;
    this.#worker = worker;
  }

  requireOpen(): void {
    if (this.#disposed) throw new DetailFlowError('closed', 'the state is disposed');
  }

  async read(name: string): Promise<Tensor> {
    this.requireOpen();
    if (!this.shapes.has(name)) throw new DetailFlowError('invalid-argument', `there is no state "${name}"`);
    const { value } = await this.#worker.send({ kind: 'read-state', state: this.id, name });
    return toTensor(value);
  }

  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    await this.#worker.free({ kind: 'drop-state', state: this.id });
  }
}

/** A view of its own memory only: sending a part of a buffer to another thread copies the whole buffer. */
function wholeBuffer<T extends Float32Array | Int32Array | Uint8Array>(data: T): T {
  return data.byteLength < data.buffer.byteLength ? (data.slice() as T) : data;
}

function toTensor({ type, data, dims }: WireTensor): Tensor {
  return new Tensor(type as 'float32', data as Float32Array, dims);
}
