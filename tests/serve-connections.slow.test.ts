import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import OpenAI from 'openai';
import { afterEach, expect, test } from 'vitest';
import { inRepository } from './cli';
import { connections } from './connections';
import { until } from './served';

// 10,000 connections at once, in all the ways that hold a server up, while pictures are drawn.

const CONNECTIONS = 10_000;

/** A server in a process of its own, so that each side has its own number of open files. */
const program = `
  import { startImageServer } from '@detailflow/serve';
  import { load } from 'detailflow';
  const model = await load(process.argv[1]);
  const server = await startImageServer({ model, port: 0, log: () => {}, ...JSON.parse(process.argv[2]) });
  await server.ready;
  console.log(server.port);
  process.once('SIGTERM', async () => {
    await server.drain(60);
    await model.dispose();
  });
`;

let child: ChildProcess | undefined;
afterEach(() => child?.kill('SIGKILL'));

async function startServer(options: object) {
  const model = inRepository('packages/model-fashion-32/model');
  const args = ['--input-type=module', '--eval', program, '--', model, JSON.stringify(options)];
  const started = spawn(process.execPath, args, {
    cwd: inRepository('examples'),
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  child = started;
  const ended = once(started, 'close');
  const lines = createInterface({ input: started.stdout });
  const [line] = await Promise.race([once(lines, 'line'), ended.then(() => ['the server ended'])]);
  const port = Number(line);
  if (!(port > 0)) throw new Error(line);
  const url = `http://127.0.0.1:${port}`;
  const client = new OpenAI({ apiKey: 'none', baseURL: `${url}/v1`, maxRetries: 0 });
  return {
    ...{ port, client },
    async count(name: string): Promise<number> {
      const text = await (await fetch(`${url}/metrics`)).text();
      return Number(
        text
          .split('\n')
          .find((one) => one.startsWith(`${name} `))
          ?.slice(name.length),
      );
    },
    /** @returns its exit code, when it has drained */
    async stop(): Promise<number | null> {
      started.kill('SIGTERM');
      return (await ended)[0];
    },
  };
}

test('more than the limit are closed at once, and those at work are served', async () => {
  const server = await startServer({ headerTimeout: 20, connections: 2048 });
  const stream = await server.client.images.generate({ prompt: '1', n: 4, stream: true, partial_images: 3 });
  const all = await connections(server.port, CONNECTIONS);
  const types: string[] = [];
  for await (const { type } of stream) types.push(type);
  expect(types.filter((type) => type === 'image_generation.completed')).toHaveLength(4);
  await until(() => all.filter((one) => !one.closed()).length <= 2048);
  await until(() => all.every((one) => one.closed())); // the rest when their time is over
  expect((await server.client.images.generate({ prompt: '2' })).data).toHaveLength(1);
  expect(await server.stop()).toBe(0);
});

test('as many that are silent or slow are held, told so and closed, while others draw', async () => {
  const server = await startServer({ headerTimeout: 15, connections: 12_000 });
  const fields = { prompt: '3', ...{ seed: 5 } };
  const { data: [expected] = [] } = await server.client.images.generate(fields);
  const all = await connections(server.port, CONNECTIONS);
  const [headers, bodies] = [all.slice(0, 1000), all.slice(1000, 2000)];
  for (const { socket } of headers) socket.write('GET /v1/models HTTP/1.1\r\nhost: x\r\nx-slow: ');
  const post = 'POST /v1/images/generations HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n';
  for (const { socket } of bodies) socket.write(`${post}content-length: 1000\r\n\r\n{`);
  const drip = setInterval(() => {
    for (const { socket, closed } of [...headers, ...bodies]) if (!closed()) socket.write(' ');
  }, 2000);
  try {
    let drawn = 0;
    while (!all.every((one) => one.closed())) {
      const { data: [picture] = [] } = await server.client.images.generate(fields);
      expect(picture).toEqual(expected);
      drawn++;
    }
    expect(drawn).toBeGreaterThan(1);
  } finally {
    clearInterval(drip);
  }
  // Whoever has begun to speak is answered.
  expect(headers.filter((one) => one.heard().startsWith('HTTP/1.1 408 ')).length).toBeGreaterThan(900);
  expect(bodies.filter((one) => one.heard().startsWith('HTTP/1.1 408 ')).length).toBeGreaterThan(900);
  expect(await server.count('detailflow_pictures_running')).toBe(0);
  expect(await server.count('detailflow_pictures_waiting')).toBe(0);
  expect(await server.stop()).toBe(0);
});
