import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { StandInHub } from '../../../tests/stand-in-hub';
import { type OpenHubOptions, openHub } from './hub-folder';

const text = (value: string) => new TextEncoder().encode(value);
const noise = (length: number) => Uint8Array.from({ length }, (_, i) => (i * 2654435761) >>> 13);
const large = noise(300_000);

let hub: StandInHub;
let cache: string;
let notices: string[];
beforeEach(async () => {
  cache = mkdtempSync(path.join(tmpdir(), 'hub-'));
  notices = [];
  hub = await new StandInHub().start();
  hub.add('config.json', text('{"a":1}')).add('folder/weights.pt', large, { large: true });
});
afterEach(async () => {
  await hub.stop();
  rmSync(cache, { recursive: true });
});

const open = (options: OpenHubOptions = {}, address = 'hf:acme/tiny') =>
  openHub(address, {
    endpoint: hub.endpoint,
    cache,
    retryDelay: 5,
    stallTimeout: 20_000,
    metadataTimeout: 20_000,
    onNotice: (message) => notices.push(message),
    ...options,
  });

async function read(options: OpenHubOptions = {}, file = 'folder/weights.pt'): Promise<Uint8Array> {
  const source = await (await open(options)).open(file);
  try {
    return await source.read(0, source.size);
  } finally {
    await source.close?.();
  }
}

const repository = () => path.join(cache, 'models--acme--tiny');
const blobs = () =>
  existsSync(path.join(repository(), 'blobs')) ? readdirSync(path.join(repository(), 'blobs')) : [];
const weights = () => hub.transfers('folder/weights.pt');
const ranges = () => hub.seen.filter(({ host }) => host === 'content').map(({ headers }) => headers.range);

describe('the layout', () => {
  test('is that of Python: blobs by etag, links, refs, a tag', async () => {
    const folder = await open();
    expect(await folder.exists('config.json')).toBe(true);
    expect(await folder.exists('folder')).toBe(false);
    expect(await folder.list('')).toEqual(['config.json']);
    expect(await folder.list('folder')).toEqual(['weights.pt']);
    expect(blobs()).toEqual([]); // nothing is fetched before it is opened
    for (const file of ['config.json', 'folder/weights.pt']) await (await folder.open(file)).close?.();
    expect(blobs().sort()).toEqual([hub.etag('config.json'), hub.etag('folder/weights.pt')].sort());
    expect(readFileSync(path.join(repository(), 'refs/main'), 'utf8')).toBe(hub.commit);
    const snapshot = path.join(repository(), 'snapshots', hub.commit);
    expect(readlinkSync(path.join(snapshot, 'folder/weights.pt'))).toBe(
      path.join('../../../blobs', hub.etag('folder/weights.pt')),
    );
    expect(readFileSync(path.join(snapshot, 'config.json'), 'utf8')).toBe('{"a":1}');
    expect(readFileSync(path.join(cache, 'CACHEDIR.TAG'), 'utf8')).toMatch(
      /^Signature: 8a477f597d28d172789f06886806bc55/,
    );
  });

  test('what lies there is not fetched again, and what somebody else damaged is', async () => {
    expect(Buffer.from(await read()).equals(large)).toBe(true);
    await read();
    expect(weights()).toBe(1);
    const blob = path.join(repository(), 'blobs', hub.etag('folder/weights.pt'));
    const damaged = Buffer.from(large);
    damaged[1000] ^= 4;
    writeFileSync(blob, damaged);
    expect(Buffer.from(await read()).equals(large)).toBe(true);
    expect(weights()).toBe(2);
    expect(notices.join()).toContain('is damaged');
  });

  test('a part of a repository, one file, and patterns', async () => {
    const folder = await open({}, 'hf:acme/tiny/folder');
    expect(await folder.list('')).toEqual(['weights.pt']);
    expect(await folder.isFile()).toBe(false);
    const one = await open({}, 'hf:acme/tiny/config.json');
    expect(await one.isFile()).toBe(true);
    expect(readFileSync(await one.fetch(), 'utf8')).toBe('{"a":1}');
    const some = await open({ allow: ['*.json'] });
    expect(readdirSync(await some.fetch())).toEqual(['config.json']);
    await expect(some.open('folder/weights.pt')).rejects.toMatchObject({ code: 'not-found' });
    expect(weights()).toBe(0);
    await expect((await open({ allow: ['*.bin'] })).fetch()).rejects.toMatchObject({ code: 'not-found' });
  });
});

describe('the wire', () => {
  test('identity encoding, and the token for the hub alone', async () => {
    hub.token = 'hf_secret';
    await read({ token: 'hf_secret' });
    await read({ token: 'hf_secret' }, 'config.json');
    expect(hub.seen.filter(({ method }) => method === 'HEAD').length).toBeGreaterThan(1);
    for (const { host, headers } of hub.seen) {
      expect(headers['accept-encoding']).toBe('identity');
      expect(headers.authorization).toBe(host === 'hub' ? 'Bearer hf_secret' : undefined);
    }
    expect(hub.seen.some(({ host }) => host === 'content')).toBe(true);
  });

  test('a repository that was renamed, and a listing of several pages', async () => {
    hub.oldName = 'old/name';
    hub.pageSize = 1;
    const folder = await open({}, 'hf:old/name');
    expect(await folder.list('folder')).toEqual(['weights.pt']);
    await (await folder.open('folder/weights.pt')).close?.();
  });

  test.each(['', '/mirror'])(
    'a listing whose next page is named at another host, behind a mirror at "%s"',
    async (prefix) => {
      hub.pageSize = 1;
      hub.listedAt = 'https://hub.invalid';
      hub.token = 'hf_secret';
      hub.prefix = prefix;
      const folder = await open({ token: 'hf_secret', endpoint: hub.endpoint + prefix });
      expect(await folder.list('folder')).toEqual(['weights.pt']);
      expect(hub.seen.filter(({ url }) => url.includes('/tree/')).length).toBe(3);
      for (const { host, headers, url } of hub.seen) {
        expect([host, headers.authorization]).toEqual(['hub', 'Bearer hf_secret']);
        expect(url.startsWith(`${prefix}/api/`)).toBe(true);
      }
    },
  );

  test('an etag that is no hash, a commit that is another, and bytes that differ from the listing are refused', async () => {
    const folder = await open({ retries: 0 });
    const head = (headers: Record<string, string>) => {
      hub.hubFault = (_, method) => (method === 'HEAD' ? [200, headers] : undefined);
      return expect(folder.open('config.json')).rejects;
    };
    await head({ etag: '"abc/../def"', 'content-length': '7' }).toMatchObject({ code: 'network' });
    const etag = `W/"${hub.etag('config.json')}"`;
    await head({ etag, 'content-length': '7', 'x-repo-commit': 'f'.repeat(40) }).toMatchObject({
      code: 'network',
    });
    await head({ etag: `"${'0'.repeat(40)}"`, 'content-length': '7' }).toMatchObject({ code: 'corrupt' });
    await head({ etag, 'content-length': '8' }).toMatchObject({ code: 'corrupt' });
    expect(blobs()).toEqual([]);
    hub.hubFault = (_, method) => (method === 'HEAD' ? [200, { etag, 'content-length': '7' }] : undefined);
    await (await folder.open('config.json')).close?.();
  });
});

describe('a transfer that goes wrong', () => {
  test.each([
    ['is cut', { cutAfter: 100_000 }],
    ['ends early without HTTP knowing', { endAfter: 100_000 }],
    ['stalls', { stallAfter: 100_000 }],
  ])('%s goes on from there', async (_, fault) => {
    hub.contentFault = (file, n) => (file === 'folder/weights.pt' && n === 0 ? fault : undefined);
    expect(Buffer.from(await read({ stallTimeout: 600 })).equals(large)).toBe(true);
    expect(ranges()[0]).toBeUndefined();
    expect(Number(/^bytes=(\d+)-$/.exec(ranges()[1]!)![1])).toBeGreaterThan(50_000);
    expect(blobs()).toEqual([hub.etag('folder/weights.pt')]);
  });

  test('one byte after the other is no progress', async () => {
    hub.contentFault = (_, n) => (n < 2 ? { drip: 20 } : undefined);
    expect(Buffer.from(await read({ stallTimeout: 600 })).equals(large)).toBe(true);
    expect(notices.join()).toContain('less than 1024 bytes');
    hub.contentFault = () => ({ drip: 20 });
    hub.add('config.json', noise(5000));
    await expect(read({ retries: 1, stallTimeout: 600 }, 'config.json')).rejects.toMatchObject({
      code: 'network',
    });
  });

  test.each([
    ['flipped', { flip: 200_000 }, 'hash'],
    ['too many', { extra: 5 }, 'more than'],
  ])('bytes that are %s remove the partial file and are told', async (_, fault, said) => {
    hub.contentFault = (_file, n) => (n === 0 ? fault : undefined);
    await expect(read()).rejects.toMatchObject({ code: 'corrupt', message: expect.stringContaining(said) });
    expect(blobs()).toEqual([]);
    expect(Buffer.from(await read()).equals(large)).toBe(true);
  });

  test('what another process left is hashed, used, and thrown away when it is damaged', async () => {
    const partial = path.join(
      repository(),
      'blobs',
      `${hub.etag('folder/weights.pt')}.detailflow.incomplete`,
    );
    mkdirSync(path.dirname(partial), { recursive: true });
    writeFileSync(partial, large.subarray(0, 250_000));
    expect(Buffer.from(await read()).equals(large)).toBe(true);
    expect(ranges()).toEqual(['bytes=250000-']);
    rmSync(repository(), { recursive: true });
    mkdirSync(path.dirname(partial), { recursive: true });
    writeFileSync(partial, noise(250_001).subarray(1));
    expect(Buffer.from(await read()).equals(large)).toBe(true);
    expect(ranges().slice(1)).toEqual(['bytes=250000-', undefined]);
    rmSync(repository(), { recursive: true });
    mkdirSync(path.dirname(partial), { recursive: true });
    writeFileSync(partial, noise(400_000)); // longer than the file
    expect(Buffer.from(await read()).equals(large)).toBe(true);
  });

  test.each([
    ['another range', { contentRange: 'bytes 0-199999/300000' }],
    ['another size', { contentRange: 'bytes 100000-299999/300001' }],
    ['no range but the whole', { ignoreRange: true }],
    ['status 416', { refuse: [416] as const }],
  ])('resuming that is answered with %s still ends right', async (_, fault) => {
    hub.contentFault = (_file, n) => (n === 0 ? { cutAfter: 100_000 } : n === 1 ? fault : undefined);
    expect(Buffer.from(await read()).equals(large)).toBe(true);
  });

  test('429 waits as told, by either header, and not for ever', async () => {
    hub.contentFault = (_, n) =>
      [
        { refuse: [429, { RateLimit: '"resolvers";r=0;t=1' }] as const },
        { refuse: [429, { 'Retry-After': '1' }] as const },
      ][n];
    const started = performance.now();
    await read({ retries: 2 });
    expect(performance.now() - started).toBeGreaterThan(1990);
    hub.hubFault = () => [429, { 'Retry-After': '100000' }];
    await expect(open()).rejects.toMatchObject({
      code: 'rate-limited',
      message: expect.stringContaining('100000 s'),
    });
  });

  test('faults of the server are tried again, and end with an error', async () => {
    hub.contentFault = (_, n) => (n < 2 ? { refuse: [503] } : n === 2 ? { refuse: [403] } : undefined);
    await read(); // 403 of a signed address that ran out: the hub hands out another
    hub.hubFault = () => [500];
    const before = hub.seen.length;
    await expect(open({ retries: 3 }, `hf:acme/tiny@${'e'.repeat(40)}`)).rejects.toMatchObject({
      code: 'network',
    });
    expect(hub.seen.length - before).toBe(4);
  });

  test('a signal ends it, and what came is kept', async () => {
    hub.contentFault = () => ({ stallAfter: 150_000 });
    const stop = new AbortController();
    const onProgress = ({ done }: { done: number }) => done > 100_000 && stop.abort();
    await expect(read({ signal: stop.signal, onProgress })).rejects.toMatchObject({ name: 'AbortError' });
    expect(blobs()).toEqual([`${hub.etag('folder/weights.pt')}.detailflow.incomplete`]);
    hub.contentFault = () => undefined;
    expect(Buffer.from(await read()).equals(large)).toBe(true);
    expect(ranges().at(-1)).toMatch(/^bytes=1\d{5}-$/);
  });

  test('the disk is looked at before anything is sent', async () => {
    hub.announcedSize = 2 ** 50;
    await expect(read()).rejects.toMatchObject({
      code: 'io',
      message: expect.stringContaining('are needed'),
    });
    expect(weights()).toBe(0);
  });
});

describe.skipIf(process.platform === 'win32')('a disk that is full', () => {
  const partial = () =>
    path.join(repository(), 'blobs', `${hub.etag('folder/weights.pt')}.detailflow.incomplete`);

  test('half-way leaves no file by its name, says what to do, and is gone on from', async () => {
    const program = path.join(cache, 'fetch.mjs');
    writeFileSync(
      program,
      `import { openHub } from ${JSON.stringify(new URL('../dist/node.js', import.meta.url).href)};
       const folder = await openHub('hf:acme/tiny');
       await folder.open('folder/weights.pt').catch(({ code, message }) => console.log(code, message));`,
    );
    const env = { ...process.env, HF_ENDPOINT: hub.endpoint, HF_HUB_CACHE: cache };
    // Files of this process cannot be longer than 200 blocks of half a kilobyte, or of a whole one.
    const command = `trap '' XFSZ; ulimit -f 200; exec "$0" "$1"`;
    const child = spawn('sh', ['-c', command, process.execPath, program], {
      env,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let said = '';
    child.stdout.on('data', (data) => (said += data));
    await once(child, 'close');
    expect(said).toMatch(/^io .*incomplete: cannot be written: .*make room, or set HF_HUB_CACHE/);
    expect(blobs()).toEqual([path.basename(partial())]);
    expect(existsSync(path.join(repository(), 'snapshots', hub.commit, 'folder/weights.pt'))).toBe(false);
    const { size } = statSync(partial());
    expect(size).toBeGreaterThan(50_000);
    expect(Buffer.from(await read()).equals(large)).toBe(true);
    expect(ranges().at(-1)).toBe(`bytes=${size}-`);
  });

  test.skipIf(!existsSync('/dev/full'))('at the first byte', async () => {
    mkdirSync(path.dirname(partial()), { recursive: true });
    symlinkSync('/dev/full', partial());
    await expect(read()).rejects.toMatchObject({
      code: 'io',
      message: expect.stringMatching(/cannot be written: the disk is full; make room, or set HF_HUB_CACHE/),
    });
    expect(weights()).toBe(1); // another try would not help
    expect(existsSync(path.join(repository(), 'blobs', hub.etag('folder/weights.pt')))).toBe(false);
  });
});

test('progress of a file and of all', async () => {
  const seen: { file: string; done: number; total: number; allDone: number; allTotal: number }[] = [];
  await (await open({ onProgress: (progress) => seen.push(progress) })).fetch();
  expect(seen.at(-1)).toMatchObject({ allDone: 300_007, allTotal: 300_007 });
  expect(seen.every(({ allTotal, done, total }) => allTotal === 300_007 && done <= total)).toBe(true);
});

test('two processes fetch a file once', async () => {
  hub.contentFault = () => ({ wait: 1500 });
  const program = path.join(cache, 'fetch.mjs');
  writeFileSync(
    program,
    `import { openHub } from ${JSON.stringify(new URL('../dist/node.js', import.meta.url).href)};
     const folder = await openHub('hf:acme/tiny', { onNotice: (message) => console.log(message) });
     const source = await folder.open('folder/weights.pt');
     console.log('size', source.size);
     await source.close();`,
  );
  const run = async () => {
    const env = { ...process.env, HF_ENDPOINT: hub.endpoint, HF_HUB_CACHE: cache };
    const child = spawn(process.execPath, [program], { env, stdio: ['ignore', 'pipe', 'inherit'] });
    let said = '';
    child.stdout.on('data', (data) => (said += data));
    await once(child, 'close');
    return said;
  };
  const both = await Promise.all([run(), run()]);
  for (const said of both) expect(said).toContain('size 300000');
  expect(both.join()).toMatch(/process \d+ is fetching it/);
  expect(weights()).toBe(1);
});

test('what a killed process left is gone on from, and its lock is no hindrance', async () => {
  hub.contentFault = (_, n) => (n === 0 ? { stallAfter: 200_000 } : undefined);
  const partial = path.join(repository(), 'blobs', `${hub.etag('folder/weights.pt')}.detailflow.incomplete`);
  const program = path.join(cache, 'fetch.mjs');
  writeFileSync(
    program,
    `import { openHub } from ${JSON.stringify(new URL('../dist/node.js', import.meta.url).href)};
     await (await openHub('hf:acme/tiny')).open('folder/weights.pt');`,
  );
  const env = { ...process.env, HF_ENDPOINT: hub.endpoint, HF_HUB_CACHE: cache };
  const child = spawn(process.execPath, [program], { env, stdio: 'inherit' });
  while (!existsSync(partial) || statSync(partial).size < 200_000) await delay(20);
  child.kill('SIGKILL');
  await once(child, 'close');
  expect(Buffer.from(await read()).equals(large)).toBe(true);
  expect(ranges().at(-1)).toBe('bytes=200000-');
});

describe('refusals', () => {
  test.each([
    ['GatedRepo', 403, 'gated'],
    ['RepoNotFound', 401, 'not-found'],
    ['RevisionNotFound', 404, 'not-found'],
    ['', 401, 'unauthorised'],
    ['', 404, 'not-found'],
  ])('%s with status %d is %s', async (code, status, expected) => {
    hub.hubFault = () => [status, { 'x-error-code': code, 'x-error-message': 'so it is' }];
    await expect(open()).rejects.toMatchObject({
      code: expected,
      message: expect.stringContaining('so it is'),
    });
    expect(hub.seen.length).toBe(1);
  });

  test('a file that is not there, a revision that is not there, a wrong token', async () => {
    await expect((await open()).open('none.json')).rejects.toMatchObject({ code: 'not-found' });
    await expect(open({}, 'hf:acme/tiny@v9')).rejects.toMatchObject({ code: 'not-found' });
    hub.token = 'good';
    await expect(open({ token: 'bad' })).rejects.toMatchObject({ code: 'not-found' });
    await expect(open({ token: 'line\nbreak' })).rejects.toMatchObject({
      code: 'invalid-argument',
      message: expect.not.stringContaining('break'),
    });
  });

  test.each(['../../../../etc/passwd', '/etc/passwd', 'a\\b', 'a/../../b', 'C:/x', 'a//b', 'a\0b'])(
    'a listing with %j',
    async (bad) => {
      hub.listed = [{ type: 'file', path: bad, size: 1, oid: 'c'.repeat(40) }];
      await expect(open()).rejects.toMatchObject({
        code: 'format',
        message: expect.stringContaining('refused'),
      });
    },
  );

  test.each([
    ['no list', '{"a":1}'],
    ['no JSON', '<html>'],
    ['no hash', '[{"type":"file","path":"a","size":1,"oid":"../x"}]'],
    ['no size', `[{"type":"file","path":"a","size":-1,"oid":"${'a'.repeat(40)}"}]`],
    ['null', '[null]'],
  ])('a listing that is %s', async (_, body) => {
    hub.hubFault = (url) => (url.includes('/tree/') ? [200, {}, body] : undefined);
    await expect(open({ retries: 0 })).rejects.toMatchObject({
      code: expect.stringMatching(/format|network/),
    });
  });

  test('a listing that goes round, on at no address, or at another host', async () => {
    const link = (address: string) => {
      hub.hubFault = (url) =>
        url.includes('/tree/') ? [200, { Link: `<${address}>; rel="next"` }, '[]'] : undefined;
      return expect(open()).rejects;
    };
    await link(`/api/models/acme/tiny/tree/${hub.commit}?recursive=true`).toMatchObject({ code: 'format' });
    await link('http://').toMatchObject({ code: 'format' });
    const asked = hub.seen.length;
    await link(`${hub.contentEndpoint}/steal?x=1`).toMatchObject({ code: 'not-found' });
    const paths = hub.seen.slice(asked).map(({ host, url }) => `${host} ${url}`);
    expect(paths.at(-1)).toBe('hub /steal?x=1');
    expect(paths.some((one) => one.startsWith('content'))).toBe(false);
  });

  test('redirects for ever, to other schemes, with passwords', async () => {
    for (const location of [
      '/api/models/acme/tiny/revision/main',
      'file:///etc/passwd',
      'http://u:p@127.0.0.1:1/',
      'http://',
    ]) {
      hub.hubFault = () => [302, { Location: location }];
      await expect(open({ retries: 0 })).rejects.toMatchObject({
        code: 'network',
        message: expect.stringContaining('redirects'),
      });
    }
  });

  test('silence ends', async () => {
    hub.hubFault = () => 'silence';
    await expect(open({ retries: 1, metadataTimeout: 100 })).rejects.toMatchObject({
      code: 'network',
      message: expect.stringContaining('no answer within 0.1 s'),
    });
    expect(hub.seen.length).toBe(2);
  });
});

describe('read by ranges', () => {
  const many = noise(9_000_000);
  const partial = ['*.pt'];
  beforeEach(() => hub.add('folder/weights.pt', many, { large: true }));

  test('only what is asked for travels, in blocks, each once', async () => {
    const source = await (await open({ partial })).open('folder/weights.pt');
    expect(source).toMatchObject({ size: 9_000_000, name: 'hf:acme/tiny/folder/weights.pt' });
    expect(await source.read(0, 0)).toEqual(new Uint8Array(0));
    for (const [from, length] of [
      [10, 20],
      [2 ** 20 - 5, 10],
      [8_999_990, 10],
      [3_000_000, 2_500_000],
      [1_000_000, 7_000_000],
    ]) {
      expect(Buffer.from(await source.read(from, length)).equals(many.subarray(from, from + length))).toBe(
        true,
      );
    }
    expect(ranges().slice(0, 3)).toEqual([
      'bytes=0-1048575',
      'bytes=1048576-2097151',
      'bytes=8388608-8999999',
    ]);
    expect(ranges().at(-1)).toBe('bytes=1000000-7999999');
    expect(new Set(ranges()).size).toBe(ranges().length);
    expect(blobs()).toEqual([]);
    expect(notices.join()).toContain('not checked against its hash');
    await expect(source.read(8_999_999, 2)).rejects.toMatchObject({ code: 'io' });
    await (await (await open({ partial })).open('config.json')).close?.();
    expect(blobs()).toEqual([hub.etag('config.json')]);
  });

  test.each([
    ['cut', { cutAfter: 1000 }],
    ['another part', { contentRange: 'bytes 1-1048576/9000000' }],
    ['another size', { contentRange: 'bytes 0-1048575/9000001' }],
    ['the whole', { ignoreRange: true }],
    ['a stall', { stallAfter: 2000 }],
    ['an address that ran out', { refuse: [403] as const }],
  ])('%s is tried again, and never taken', async (_, fault) => {
    hub.contentFault = (_file, n) => (n === 0 ? fault : undefined);
    const folder = await open({ partial, stallTimeout: 600 });
    const source = await folder.open('folder/weights.pt');
    expect(await source.read(5, 5)).toEqual(many.slice(5, 10));
    hub.contentFault = () => fault;
    const other = await (await open({ partial, retries: 1, stallTimeout: 600 })).open('folder/weights.pt');
    await expect(other.read(5, 5)).rejects.toMatchObject({
      code: expect.stringMatching(/network|unauthorised/),
    });
    hub.contentFault = () => undefined;
    expect(await other.read(5, 5)).toEqual(many.slice(5, 10)); // a fault is not kept
  });

  test('a file that became another one on the hub', async () => {
    const source = await (await open({ partial })).open('folder/weights.pt');
    hub.add('folder/weights.pt', many.slice().reverse(), { large: true });
    await expect(source.read(0, 1)).rejects.toMatchObject({ code: 'corrupt' });
  });

  test('what is in the cache is read from there', async () => {
    await read();
    const source = await (await open({ partial })).open('folder/weights.pt');
    expect(source.path).toBeDefined();
    await source.close?.();
  });
});

describe('without the network', () => {
  test('offline: what is in the cache, and a typed error for the rest', async () => {
    await expect(open({ offline: true })).rejects.toMatchObject({ code: 'offline' });
    await read({}, 'config.json');
    const before = hub.seen.length;
    const folder = await open({ offline: true });
    expect(await folder.list('')).toEqual(['config.json']);
    expect(await folder.exists('folder/weights.pt')).toBe(false);
    await (await folder.open('config.json')).close?.();
    await expect(folder.open('folder/weights.pt')).rejects.toMatchObject({ code: 'offline' });
    expect(hub.seen.length).toBe(before);
    writeFileSync(path.join(repository(), 'blobs', hub.etag('config.json')), '{"a":2}');
    await expect(folder.open('config.json')).rejects.toMatchObject({ code: 'corrupt' });
  });

  test('a hub that is down: the cache, with a notice', async () => {
    await read();
    hub.hubFault = () => [503];
    const folder = await open({ retries: 0 });
    await (await folder.open('folder/weights.pt')).close?.();
    expect(notices.join()).toContain('what is in the cache is used');
    await expect(folder.open('config.json')).rejects.toMatchObject({ code: 'network' });
  });
});
