import type { Message, RuntimeSettings } from './protocol';

/** Child process of a backend on a GPU, or of one that was made in a worker thread; see `ProcessHost`. */

// Ctrl-C reaches all processes of a terminal: this one ends when its parent has done with it, or is gone.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});
process.on('disconnect', () => process.exit());

/** Requests are answered one after the other, so that a run sees the state that the run before it left. */
let last: Promise<void> = Promise.resolve();

process.on('message', (message: Message) => {
  last = last.then(async () => {
    if (message === 'close') process.exit();
    const reply = await (await server).answer(message.id, message.request);
    process.send?.(reply, (error: Error | null) => error && process.exit()); // its parent is gone
  });
});

const server = import('./runtime-server').then(
  ({ RuntimeServer }) => new RuntimeServer(JSON.parse(process.argv[2]) as RuntimeSettings),
);
server.catch((error: Error) => process.send?.({ failure: error.message }, () => process.exit(1)));
