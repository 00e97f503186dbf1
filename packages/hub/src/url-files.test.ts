import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { StandInHub } from '../../../tests/stand-in-hub';
import type { OpenHubOptions } from './hub-folder';
import { fetchRemote, openRemote, openRemoteFile } from './remote';

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

test.each([
  ['no ETag', undefined, undefined],
  ['a weak ETag', 'W/"1"', 'W/"1"'],
  ['an ETag that changes, at a server that does not look at If-Range', '"1"', '"2"'],
])(
  'a transfer that breaks off begins anew with %s, so that no two versions are joined',
  async (_, first, second) => {
    server.contentEtag = first;
    const other = content.slice().reverse();
    server.contentFault = (_, n) => {
      if (n > 0) return undefined;
      server.contentEtag = second; // of the next answer, as is the content
      server.add('sub/data.npz', other, { large: true });
      return { cutAfter: 40_000 };
    };
    const found = readFileSync(await fetched('sub/data.npz'));
    expect([found.equals(content), found.equals(other)]).toEqual([false, true]);
  },
);

test.skipIf(!existsSync('/dev/full'))(
  'a disk that is full, and a partial file that cannot be emptied',
  async () => {
    const blob = await fetched('sub/data.npz');
    rmSync(blob);
    symlinkSync('/dev/full', `${blob}.detailflow.incomplete`);
    await expect(fetched('sub/data.npz')).rejects.toMatchObject({
      code: 'io',
      message: expect.stringMatching(/cannot be written: the disk is full; make room, or set HF_HOME/),
    });
    server.contentEtag = undefined;
    const blind = await fetched('sub/data.npz');
    rmSync(blind);
    symlinkSync('/dev/full', `${blind}.detailflow.incomplete`);
    await expect(fetched('sub/data.npz')).rejects.toMatchObject({
      code: 'io',
      message: expect.stringContaining('cannot be emptied'),
    });
  },
);

test('a hash in the address is checked, also of what is in the cache', async () => {
  const pinned = `sub/data.npz#sha256=${sha256}`;
  const file = await fetched(pinned);
  writeFileSync(file, Buffer.alloc(100_000));
  expect(readFileSync(await fetched(pinned)).equals(content)).toBe(true);
  await expect(fetched(`sub/data.npz#sha256=${'0'.repeat(64)}`)).rejects.toMatchObject({ code: 'corrupt' });
  await expect(fetched('sub/data.npz#md5=1')).rejects.toMatchObject({ code: 'invalid-argument' });
});

test('the folder around a file, which is asked for by its own address', async () => {
  const one = await openRemoteFile(`${address}sub/data.npz?download=true#sha256=${sha256}`, options());
  expect(one).toMatchObject({ name: 'data.npz', tree: { name: `${address}sub` } });
  const { tree } = one!;
  expect(await tree.list('')).toEqual(['data.npz']);
  expect([await tree.exists('data.npz'), await tree.exists('config.json')]).toEqual([true, false]);
  await (await tree.open('data.npz')).close?.();
  expect(
    server.seen.filter(({ url }) => url.includes('config.json')).every(({ url }) => !url.includes('?')),
  ).toBe(true);
  server.add('sub/config.json', new TextEncoder().encode('{}'));
  expect(await tree.list('')).toEqual(['config.json', 'data.npz']);
  // A server that shows this file need not say whether there are others.
  server.hubFault = (url) => (url.includes('config.json') ? [403] : undefined);
  expect(await tree.list('')).toEqual(['data.npz']);
  server.hubFault = () => [403];
  await expect(tree.exists('data.npz')).rejects.toMatchObject({ code: 'unauthorised' });
  for (const wrong of ['', 'sub/', 'a%2fb', '%', '%5c', 'C%3A'])
    await expect(openRemoteFile(address + wrong, options())).rejects.toMatchObject({
      code: 'invalid-argument',
    });
  for (const wrong of ['sub?x=1', 'sub#x'])
    await expect(openRemote(address + wrong, options())).rejects.toMatchObject({ code: 'invalid-argument' });
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
