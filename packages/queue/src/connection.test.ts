import { createServer, type Server, type Socket } from 'node:net';
import { networkInterfaces } from 'node:os';
import { afterEach, expect, test } from 'vitest';
import { connectUntil } from './connection';
import { parseQueueAddress } from './queue-address';

const stops: (() => void)[] = [];
afterEach(() => {
  for (const stop of stops.splice(0)) stop();
});

/** Takes connections, and does with them what is said. */
async function listening(onConnection: (socket: Socket) => void): Promise<string> {
  const sockets = new Set<Socket>();
  const server: Server = createServer((socket) => {
    socket.on('error', () => {});
    sockets.add(socket);
    onConnection(socket);
  });
  stops.push(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `redis://127.0.0.1:${(server.address() as { port: number }).port}`;
}

test('a server that says nothing is waited for until one is told not to, or for a while', async () => {
  const address = parseQueueAddress(await listening(() => {}));
  const controller = new AbortController();
  const waiting = connectUntil(address, { signal: controller.signal });
  setTimeout(() => controller.abort(new Error('enough')), 200);
  await expect(waiting).rejects.toThrow('enough');
  await expect(connectUntil(address, {})).rejects.toMatchObject({
    code: 'network',
    message: expect.stringMatching(/says nothing for 10 seconds; is it a Redis server/),
  });
});

test('something else than Redis is told of', async () => {
  const address = parseQueueAddress(
    await listening((socket) => socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n')),
  );
  await expect(connectUntil(address, {})).rejects.toMatchObject({
    code: 'network',
    message: expect.stringMatching(/answers, but not as Redis does/),
  });
});

/** Loopback addresses of this machine, which may have none of IPv6. */
const loopbacks = Object.values(networkInterfaces()).flatMap((all = []) =>
  all
    .filter(({ internal }) => internal)
    .map(({ family, address }) => (family === 'IPv6' ? `[${address}]` : address)),
);

test.each(loopbacks)('an encrypted connection to %s names no server by its number', async (host) => {
  const warnings: unknown[] = [];
  const listen = (warning: Error & { code?: string }) => warnings.push(warning.code);
  process.on('warning', listen);
  const server = createServer((socket) => socket.destroy());
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(0, host.replace(/[[\]]/g, ''), resolve);
    });
    const { port } = server.address() as { port: number };
    await expect(connectUntil(parseQueueAddress(`rediss://${host}:${port}`), {})).rejects.toMatchObject({
      code: 'network',
    });
    await new Promise((resolve) => setImmediate(resolve)); // when warnings are told
    expect(warnings).not.toContain('DEP0123');
  } finally {
    process.off('warning', listen);
    server.close();
  }
});
