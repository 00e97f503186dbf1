import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import OpenAI from 'openai';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { cli, fashion, inRepository } from '../../../../tests/cli';

const program = inRepository('packages/detailflow/dist/cli.js');
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'serve-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

type Child = ChildProcessByStdio<null, Readable, Readable>;

/** A running command; `entry` waits for a line of its log. */
function serve(args: readonly string[]) {
  const child = spawn(process.execPath, [program, 'serve', '--port', '0', ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  }) as Child;
  const entries: Record<string, unknown>[] = [];
  const waiting = new Set<() => void>();
  const lines = createInterface({ input: child.stdout });
  lines.on('line', (line) => {
    entries.push(JSON.parse(line));
    for (const wake of waiting) wake();
  });
  let errors = '';
  child.stderr.on('data', (bytes) => {
    errors += bytes;
  });
  const exit = once(child, 'close').then(([code]) => code as number | null);
  const entry = async (event: string): Promise<Record<string, unknown>> => {
    for (;;) {
      const found = entries.find((one) => one.event === event);
      if (found) return found;
      const isOver = await Promise.race([
        new Promise<void>((resolve) => waiting.add(resolve)),
        exit.then((code) => `ended with ${code}: ${errors}`),
      ]);
      if (isOver && !entries.some((one) => one.event === event)) throw new Error(isOver);
    }
  };
  return { child, entries, entry, exit, errors: () => errors };
}

test('serves until it is asked to end, finishes what it took on, and exits with 0', async () => {
  const keys = path.join(folder, 'keys.txt');
  writeFileSync(keys, '# of the team\nkey-of-somebody\n\nkey-of-another\n');
  const { child, entry, exit, entries, errors } = serve([
    ...fashion,
    '--keys',
    keys,
    '--max-batch',
    '2',
    '--name',
    'tiny',
  ]);
  const { url } = (await entry('listening')) as { url: string };
  expect(url).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/);
  await entry('ready');
  expect((await fetch(`${url}/v1/models`)).status).toBe(401);
  const client = new OpenAI({ apiKey: 'key-of-another', baseURL: `${url}/v1`, maxRetries: 0 });
  expect((await client.models.list()).data[0].id).toBe('tiny');
  const stream = await client.images.generate({ prompt: '3', n: 4, stream: true, partial_images: 1 });
  let completed = 0;
  let isAsked = false; // a second signal would end it at once
  for await (const { type } of stream) {
    if (type === 'image_generation.completed') completed++;
    else if (!isAsked) isAsked = child.kill('SIGTERM');
  }
  expect(completed).toBe(4);
  expect(await exit).toBe(0);
  expect(entries.at(-1)).toMatchObject({ event: 'stopped', unfinished: 0, cut: 0 });
  expect(JSON.stringify(entries) + errors()).not.toContain('key-of');
});

test('prints nothing when it is to be quiet, and what it was asked for as JSON', async () => {
  const { child, exit, entries, errors } = serve([...fashion, '--quiet', '--json']);
  await new Promise<void>((resolve) => {
    child.stderr.on('data', () => /listens on/.test(errors()) && resolve());
  });
  const url = /http:\S+/.exec(errors())?.[0];
  expect((await fetch(`${url}/health`)).status).toBe(200);
  child.kill('SIGINT');
  expect(await exit).toBe(0);
  expect(entries).toEqual([{ url, unfinished: 0, cut: 0 }]);
});

test.each<[string, string[], number, string]>([
  ['no model', [], 2, 'give --model DIR'],
  ['a port beyond ports', [...fashion, '--port', '70000'], 2, '--port'],
  ['nobody to draw', [...fashion, '--max-batch', '0'], 2, '--max-batch'],
  ['too many of a request', [...fashion, '--max-n', '11'], 2, '--max-n'],
  ['a site that is none', [...fashion, '--origins', 'example.org'], 2, 'origins: "example.org"'],
  ['no such file of keys', [...fashion, '--keys', '/nowhere/keys'], 1, '/nowhere/keys'],
  [
    'an address of another machine',
    [...fashion, '--port', '0', '--host', '192.0.2.1'],
    1,
    'cannot listen on 192.0.2.1',
  ],
])('refuses %s', async (_name, args, code, text) => {
  const outcome = await cli(['serve', ...args]);
  expect([outcome.code, outcome.stderr]).toEqual([code, expect.stringContaining(text)]);
});

test('refuses a file without a key, and one with a key that none can send, without printing it', async () => {
  const keys = path.join(folder, 'wrong.txt');
  for (const [text, reason] of [
    ['# none\n', 'no key'],
    ['good-enough-key\nnot a-key-secret\n', 'line 2'],
    ['short\n', 'line 1'],
  ]) {
    writeFileSync(keys, text);
    const { code, stderr } = await cli(['serve', ...fashion, '--keys', keys]);
    expect([code, stderr]).toEqual([1, expect.stringContaining(reason)]);
    expect(stderr).not.toMatch(/secret|short/);
  }
});
