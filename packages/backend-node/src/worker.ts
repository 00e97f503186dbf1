import { parentPort, workerData } from 'node:worker_threads';
import { Flag, type Message, type Reply, type WorkerSettings } from './protocol';
import { RuntimeServer } from './runtime-server';

/** Runs ONNX Runtime, which blocks the thread it is called on, away from the main thread. */

const settings = workerData as WorkerSettings;
const server = new RuntimeServer(settings);

/** Requests are answered one after the other, so that a run sees the state that the run before it left. */
let last: Promise<void> = Promise.resolve();

setBusy(false); // ONNX Runtime is loaded

parentPort?.on('message', (message: Message) => {
  last = last.then(() => (message === 'close' ? process.exit() : handle(message)));
});

async function handle({ id, request }: Exclude<Message, 'close'>): Promise<void> {
  setBusy(true); // before looking whether to close, so that one of the two threads sees the other
  try {
    if (Atomics.load(settings.flags, Flag.closing) === 1) return; // nobody waits for an answer
    const reply = await server.answer(id, request);
    const tensors = 'tensors' in reply ? Object.values(reply.tensors) : [];
    post(
      reply,
      tensors.map((tensor) => tensor.data.buffer as ArrayBuffer),
    );
  } finally {
    setBusy(false);
  }
}

function setBusy(busy: boolean): void {
  Atomics.store(settings.flags, Flag.busy, Number(busy));
  Atomics.notify(settings.flags, Flag.busy);
}

function post(reply: Reply, transfer: ArrayBuffer[]): void {
  parentPort?.postMessage(reply, transfer);
}
