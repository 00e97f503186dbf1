import { createServer } from 'node:net';
import { expect, test } from 'vitest';
import { connectUntil } from './connection';
import { parseQueueAddress } from './queue-address';

test.each(['127.0.0.1', '[::1]'])(
  'an encrypted connection to %s names no server by its number',
  async (host) => {
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
  },
);
