import { expect, test } from 'vitest';
import { folderResults } from './folder-results';
import { parseQueueAddress, type QueueAddress } from './queue-address';
import { QueueControl } from './queue-control';
import { ShardClient, type ShardClientOptions } from './shard-client';
import { type RunWorkerOptions, runWorker } from './shard-worker';
import { digestTask } from './test-job';

// Nothing listens there: what is wrong is said before anybody is asked.
const nowhere = parseQueueAddress('redis://127.0.0.1:1');
const refused = (message: RegExp) => ({ code: 'invalid-argument', message: expect.stringMatching(message) });

test.each([undefined, null, 5, {}, 'redis://me:secret@127.0.0.1'])('no address: %o', async (given) => {
  const address = given as unknown as QueueAddress;
  const { signal } = new AbortController();
  for (const open of [
    () => ShardClient.open(address),
    () => QueueControl.open(address),
    () => runWorker(address, { tasks: {}, signal }),
  ]) {
    const error = await open().catch((thrown) => thrown);
    expect(error).toMatchObject(refused(/^the address of the queue is /));
    expect(error.message).not.toContain('secret');
  }
});

test.each<[object, RegExp]>([
  [{ signal: {} }, /^(the )?signal( of [\w.]+)? is an object; give an AbortSignal/],
  [{ signal: 'now' }, /^(the )?signal( of [\w.]+)? is "now"/],
  [{ onNotice: console }, /^onNotice is /],
  [{ results: 5 }, /^the folder for results is 5/],
  [{ results: '' }, /^the folder for results is ""/], // it would be the folder that the process is in
])('no option of a client or a worker: %o', async (options, message) => {
  await expect(ShardClient.open(nowhere, options as ShardClientOptions)).rejects.toMatchObject(
    refused(message),
  );
  const { signal } = new AbortController();
  const worker = runWorker(nowhere, { tasks: {}, signal, ...options } as RunWorkerOptions);
  await expect(worker).rejects.toMatchObject(refused(message));
});

test.each<[object, RegExp]>([
  [{ tasks: undefined }, /^tasks /],
  [{ tasks: { digests: () => {} } }, /^the task "digests" is /],
  [{ signal: undefined }, /^signal /],
  [{ onShard: 5 }, /^onShard is 5/],
])('no option of a worker: %o', async (options, message) => {
  const { signal } = new AbortController();
  const worker = runWorker(nowhere, {
    tasks: { digests: digestTask() },
    signal,
    ...options,
  } as RunWorkerOptions);
  await expect(worker).rejects.toMatchObject(refused(message));
});

test('no folder, and no password', () => {
  expect(() => folderResults('')).toThrow(expect.objectContaining(refused(/^the folder/)));
  expect(() => parseQueueAddress('redis://127.0.0.1', 5 as never)).toThrow(
    expect.objectContaining(refused(/^the password/)),
  );
});
