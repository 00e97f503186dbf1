import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { StandInHub } from '../../../tests/stand-in-hub';
import type { OpenHubOptions } from './hub-folder';
import { fetchRemote, openRemote } from './remote';

const content = Uint8Array.from({ length: 100_000 }, (_, i) => i * 7);
const sha256 = createHash('sha256').update(content).digest('hex');

let server: StandInHub;
let folder: string;
let address: string;
let notices: string[];
beforeEach(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'hub-url-'));
  notices = [];
  server = await new StandInHub().start();
  server
    .add('config.json', new TextEncoder().encode('{"a":1}'))
    .add('sub/data.npz', content, { large: true });
  address = `${server.endpoint}/acme/tiny/resolve/main/`;
});
afterEach(async () => {
  await server.stop();
  rmSync(folder, { recursive: true });
});

const options = (more: OpenHubOptions = {}): OpenHubOptions => ({
  urlCache: folder,
  cache: path.join(folder, 'hub'),
  token: 'hf_secret',
  retryDelay: 5,
  onNotice: (message) => notices.push(message),
  ...more,
});
const fetched = (file: string, more?: OpenHubOptions) => fetchRemote(address + file, options(more));

test('one file keeps its name, is fetched once, and anew when it changed', async () => {
  const file = await fetched('config.json');
  expect(path.basename(file)).toBe('config.json');
  expect(readFileSync(file, 'utf8')).toBe('{"a":1}');
  expect(notices.join()).toContain('only the length is checked');
  expect(await fetched('config.json')).toBe(file);
  expect(server.transfers('config.json')).toBe(1);
  server.add('config.json', new TextEncoder().encode('{"a":2}'));
  expect(readFileSync(await fetched('config.json'), 'utf8')).toBe('{"a":2}');
  expect(readFileSync(await fetched('config.json', { offline: true }), 'utf8')).toBe('{"a":2}');
  await expect(fetched('sub/data.npz', { offline: true })).rejects.toMatchObject({ code: 'offline' });
  for (const { headers } of server.seen) expect(headers.authorization).toBeUndefined();
});

test('a cut transfer goes on, for the same version only', async () => {
  server.contentFault = (_, n) => (n === 0 ? { cutAfter: 40_000 } : undefined);
  expect(readFileSync(await fetched('sub/data.npz')).equals(content)).toBe(true);
  const resumed = server.seen.filter(({ headers }) => headers.range);
  expect(resumed.at(-1)?.headers['if-range']).toBe(`"${'f'.repeat(64)}"`);
});

test('a hash in the address is checked, also of what is in the cache', async () => {
  const pinned = `sub/data.npz#sha256=${sha256}`;
  const file = await fetched(pinned);
  writeFileSync(file, Buffer.alloc(100_000));
  expect(readFileSync(await fetched(pinned)).equals(content)).toBe(true);
  await expect(fetched(`sub/data.npz#sha256=${'0'.repeat(64)}`)).rejects.toMatchObject({ code: 'corrupt' });
  await expect(fetched('sub/data.npz#md5=1')).rejects.toMatchObject({ code: 'invalid-argument' });
});

test('a folder', async () => {
  const tree = await openRemote(address.slice(0, -1), options());
  expect(await tree.exists('config.json')).toBe(true);
  expect(await tree.exists('none.json')).toBe(false);
  const source = await tree.open('sub/data.npz');
  expect(source.size).toBe(100_000);
  await source.close?.();
  await expect(tree.open('../../x')).rejects.toMatchObject({ code: 'invalid-argument' });
  await expect(tree.open('none.json')).rejects.toMatchObject({ code: 'not-found' });
});

test.each([
  ['a page in place of a file', [200, { 'Content-Type': 'text/html', 'Content-Length': '5' }], 'not-found'],
  ['no length', [200, { 'Transfer-Encoding': 'chunked' }], 'network'],
  ['no rights', [403], 'unauthorised'],
] as const)('%s', async (_, fault, code) => {
  server.hubFault = () => fault as never;
  await expect(fetched('config.json', { retries: 0 })).rejects.toMatchObject({ code });
  expect(readdirSync(folder)).toEqual([]);
});

test('nobody there', async () => {
  await expect(fetchRemote('http://127.0.0.1:1/x.npz', options({ retries: 1 }))).rejects.toMatchObject({
    code: 'network',
  });
  await expect(fetchRemote('http://u:p@127.0.0.1/x', options())).rejects.toMatchObject({
    code: 'invalid-argument',
  });
});
