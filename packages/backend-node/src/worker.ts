import { parentPort, workerData } from 'node:worker_threads';
import ort from 'onnxruntime-node';
import {
  Flag,
  type Message,
  type Reply,
  type Request,
  type WireState,
  type WireTensor,
  type WorkerSettings,
} from './protocol';

/** Runs ONNX Runtime, which blocks the thread it is called on, away from the main thread. */

interface Session {
  readonly runtime: ort.InferenceSession;
  readonly states: readonly WireState[];
}

type Buffers = Map<string, WireTensor>;

const arrays = { float32: Float32Array, int32: Int32Array, bool: Uint8Array };

const settings = workerData as WorkerSettings;
const sessions = new Map<number, Session>();
const states = new Map<number, Buffers>();

/** Requests are answered one after the other, so that a run sees the state that the run before it left. */
let last: Promise<void> = Promise.resolve();

setBusy(false); // ONNX Runtime is loaded

parentPort?.on('message', (message: Message) => {
  last = last.then(() => (message === 'close' ? process.exit() : handle(message.id, message.request)));
});

async function handle(id: number, request: Request): Promise<void> {
  setBusy(true); // before looking whether to close, so that one of the two threads sees the other
  try {
    if (Atomics.load(settings.flags, Flag.closing) === 1) return; // nobody waits for an answer
    const tensors = await answer(request);
    const buffers = Object.values(tensors).map((tensor) => tensor.data.buffer as ArrayBuffer);
    post({ id, tensors }, buffers);
  } catch (error) {
    post({ id, error: error instanceof Error ? error.message : String(error) });
  } finally {
    setBusy(false);
  }
}

function setBusy(busy: boolean): void {
  Atomics.store(settings.flags, Flag.busy, Number(busy));
  Atomics.notify(settings.flags, Flag.busy);
}

function post(reply: Reply, transfer: ArrayBuffer[] = []): void {
  parentPort?.postMessage(reply, transfer);
}

async function answer(request: Request): Promise<Record<string, WireTensor>> {
  switch (request.kind) {
    case 'load':
      await load(request);
      return {};
    case 'run':
      return run(request);
    case 'create-state': {
      const buffers: Buffers = new Map();
      for (const [name, { type, dims, data }] of Object.entries(request.buffers)) {
        buffers.set(name, { type, data: data ?? new arrays[type](dims.reduce((a, b) => a * b, 1)), dims });
      }
      states.set(request.state, buffers);
      return {};
    }
    case 'read-state': {
      const buffer = buffersOf(request.state).get(request.name);
      if (!buffer) throw new Error(`there is no state "${request.name}"`);
      return { value: { ...buffer, data: buffer.data.slice() } };
    }
    case 'write-state':
      buffersOf(request.state).set(request.name, request.tensor);
      return {};
    case 'drop-state':
      states.delete(request.state);
      return {};
    case 'release': {
      const session = sessions.get(request.session);
      sessions.delete(request.session);
      if (settings.profile) session?.runtime.endProfiling();
      await session?.runtime.release();
      return {};
    }
  }
}

async function load(request: Extract<Request, { kind: 'load' }>): Promise<void> {
  const runtime = await ort.InferenceSession.create(request.model, {
    executionProviders: [settings.device],
    intraOpNumThreads: settings.threads,
    interOpNumThreads: 1,
    graphOptimizationLevel: 'all',
    logSeverityLevel: 3,
    ...(settings.profile && { enableProfiling: true, profileFilePrefix: settings.profile }),
    // Without it, sums of 8-bit products overflow 16 bits on processors without VNNI.
    extra: { session: { x64quantprecision: '1' } },
    ...(request.memory && { externalData: [{ path: request.memory.name, data: request.memory.data }] }),
    ...(request.folder && {
      extra: { session: { model_external_initializers_file_folder_path: request.folder } },
    }),
  });
  sessions.set(request.session, { runtime, states: request.states });
}

async function run(request: Extract<Request, { kind: 'run' }>): Promise<Record<string, WireTensor>> {
  const session = sessions.get(request.session);
  if (!session) throw new Error('the session is not loaded');
  const buffers = request.state === undefined ? undefined : buffersOf(request.state);
  const feeds: Record<string, ort.Tensor> = {};
  for (const [name, feed] of Object.entries(request.feeds)) feeds[name] = toOrt(feed);
  for (const { name, input } of session.states) {
    const buffer = buffers?.get(name);
    if (!buffer) throw new Error(`the run needs the state "${name}"`);
    feeds[input] = toOrt(buffer);
  }
  const results = await session.runtime.run(feeds);
  for (const state of session.states) bringUpToDate(state, buffers as Buffers, results);
  return Object.fromEntries(
    request.outputs.map((name) => {
      const { type, data, dims } = results[name];
      return [name, { type, data: data.slice() as Float32Array, dims } as WireTensor];
    }),
  );
}

const toOrt = ({ type, data, dims }: WireTensor): ort.Tensor =>
  new ort.Tensor(type as 'float32', data as Float32Array, dims);

/** Takes over a new state, or writes the new rows into the buffer, which nobody reads any more. */
function bringUpToDate(state: WireState, buffers: Buffers, results: ort.InferenceSession.ReturnType): void {
  if (state.output === undefined) return;
  const next = results[state.output];
  const data = next.data as Float32Array;
  const buffer = buffers.get(state.name) as WireTensor;
  if (!state.rows) {
    buffers.set(state.name, { ...buffer, data });
    return;
  }
  const { axis, offset } = state.rows;
  const at = (results[offset].data as Int32Array)[0];
  const inner = buffer.dims.slice(axis + 1).reduce((a, b) => a * b, 1);
  const block = next.dims[axis] * inner;
  const stride = buffer.dims[axis] * inner;
  if (at < 0 || at + next.dims[axis] > buffer.dims[axis]) {
    throw new Error(
      `rows ${at}..${at + next.dims[axis]} do not fit the state "${state.name}" of ${buffer.dims[axis]} rows`,
    );
  }
  for (let from = 0, to = at * inner; from < data.length; from += block, to += stride) {
    buffer.data.set(data.subarray(from, from + block), to);
  }
}

function buffersOf(state: number): Buffers {
  const buffers = states.get(state);
  if (!buffers) throw new Error('the state is disposed');
  return buffers;
}
