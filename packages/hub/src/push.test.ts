import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { StandInHub } from '../../../tests/stand-in-hub';
import { openHub } from './hub-folder';
import { type PushOptions, push } from './push';

const noise = (length: number, seed = 1) =>
  Uint8Array.from({ length }, (_, i) => ((i + seed) * 2654435761) >>> 13);
const content: Readonly<Record<string, Uint8Array>> = {
  'config.json': new TextEncoder().encode('{"a":1}'),
  'weights/one.safetensors': noise(300_000),
  'weights/two.pt': noise(5_000, 2),
  'ä ö/#%.txt': new TextEncoder().encode('ü'),
  'empty.txt': new Uint8Array(0),
};

let hub: StandInHub;
let root: string;
let folder: string;
beforeEach(async () => {
  root = mkdtempSync(path.join(tmpdir(), 'push-'));
  folder = path.join(root, 'model');
  for (const [name, bytes] of Object.entries(content)) put(name, bytes);
  hub = await new StandInHub().start();
});
afterEach(async () => {
  await hub.stop();
  rmSync(root, { recursive: true });
});

function put(name: string, bytes: Uint8Array | string): void {
  mkdirSync(path.dirname(path.join(folder, name)), { recursive: true });
  writeFileSync(path.join(folder, name), bytes);
}

const settings = () => ({
  ...{ endpoint: hub.endpoint, cache: path.join(root, 'cache'), token: 'hf_right', retryDelay: 5 },
  ...{ stallTimeout: 20_000, metadataTimeout: 20_000 },
});
const pushed = (options: PushOptions = {}, address = 'hf:acme/tiny') =>
  push(folder, address, { ...settings(), ...options });

/** What the hub gives back. */
async function fetched(address = 'hf:acme/tiny'): Promise<Record<string, Uint8Array>> {
  const tree = await openHub(address, settings());
  const found: Record<string, Uint8Array> = {};
  for (const name of Object.keys(content)) {
    const file = await tree.open(name);
    found[name] = await file.read(0, file.size);
    await file.close?.();
  }
  return found;
}
const codeOf = (action: Promise<unknown>) =>
  action.then(
    () => undefined,
    (error) => (error.name === 'AbortError' ? error.name : error.code),
  );

describe('what is pushed', () => {
  test('is fetched again, byte for byte: large files apart, the others in the commit', async () => {
    const progress: number[] = [];
    const result = await pushed({
      message: 'First version\n\nSmall.',
      onProgress: ({ allDone, allTotal }) => progress.push(allDone / allTotal),
    });
    expect(result.commit).toBe(hub.commit);
    expect(result.files.map(({ path: name, state }) => [name, state])).toEqual(
      Object.keys(content)
        .sort()
        .map((name) => [name, 'sent']),
    );
    expect(progress.at(-1)).toBe(1);
    expect(hub.writes.commits).toMatchObject([{ summary: 'First version', description: 'Small.' }]);
    expect([...hub.files].filter(([, { isLarge }]) => isLarge).map(([name]) => name)).toEqual([
      'weights/one.safetensors',
      'weights/two.pt',
    ]);
    expect(await fetched()).toEqual(content);
    const uploads = hub.seen.filter(({ method }) => method === 'PUT');
    expect(uploads).toHaveLength(2);
    for (const { headers } of uploads) expect(headers.authorization).toBeUndefined();
  });

  test('is not sent a second time; what has changed is', async () => {
    await pushed();
    const before = hub.commit;
    const again = await pushed();
    expect(again.commit).toBe(before);
    expect(new Set(again.files.map(({ state }) => state))).toEqual(new Set(['unchanged']));
    put('config.json', '{"a":2}');
    hub.add('theirs.txt', new TextEncoder().encode('stays'));
    const third = await pushed();
    expect(third.files.filter(({ state }) => state === 'sent').map(({ path: name }) => name)).toEqual([
      'config.json',
    ]);
    expect(hub.writes.commits).toHaveLength(2);
    expect(hub.writes.uploads).toBe(2);
    expect(hub.files.has('theirs.txt')).toBe(true);
  });

  test('in parts, into a folder, to a branch, leaving out what is hidden and what .gitignore names', async () => {
    put('.env', 'HF_TOKEN=secret');
    put('.cache/x', 'x');
    put('.gitattributes', '*.pt filter=lfs');
    put('notes.tmp', 'x');
    symlinkSync(path.join(folder, 'config.json'), path.join(folder, 'linked.json'));
    symlinkSync(path.join(folder, 'weights'), path.join(folder, 'linked'));
    hub.branches.add('better');
    hub.writes.chunkSize = 64_000;
    hub.writes.ignored = (name) => name.endsWith('.tmp');
    const { files, leftOut } = await pushed({}, 'hf:acme/tiny@better/inside');
    expect(leftOut).toEqual(['.cache', '.env', 'linked']);
    expect(files.find(({ path: name }) => name === 'inside/notes.tmp')?.state).toBe('ignored');
    expect([...hub.files.keys()]).toContain('inside/.gitattributes');
    expect([...hub.files.keys()]).toContain('inside/linked.json');
    expect([...hub.files.keys()].some((name) => /env|cache|tmp/.test(name))).toBe(false);
    expect(hub.writes.uploads).toBe(6);
    expect(await fetched('hf:acme/tiny@better/inside')).toEqual(content);
  });

  test('is only listed, and no server is asked, when nothing is to be sent', async () => {
    const { files, commit } = await pushed({ dryRun: true, token: undefined });
    expect(commit).toBeUndefined();
    expect(files.map(({ path: name, size }) => [name, size])).toEqual(
      Object.keys(content)
        .sort()
        .map((name) => [name, content[name].length]),
    );
    expect(hub.seen).toEqual([]);
  });
});

describe('repositories and branches', () => {
  test('are made when that is asked for, and otherwise must be there', async () => {
    hub.exists = false;
    expect(await codeOf(pushed())).toBe('not-found');
    expect(hub.writes.made).toEqual([]);
    await pushed({ create: true, isPrivate: true });
    expect(hub.writes.made).toEqual([{ name: 'acme/tiny', isPrivate: true }]);
    expect(await fetched()).toEqual(content);
    expect(await codeOf(pushed({ create: true }))).toBe('invalid-argument');
    hub.exists = false;
    hub.writes.ignoresPrivate = true;
    const commits = hub.writes.commits.length;
    await expect(pushed({ create: true, isPrivate: true })).rejects.toThrow(/everyone can see it/);
    expect(hub.writes.commits).toHaveLength(commits);
    expect(await codeOf(pushed({}, 'hf:acme/tiny@new'))).toBe('not-found');
    await pushed({ create: true }, 'hf:acme/tiny@new');
    expect([...hub.branches]).toEqual(['main', 'new']);
  });

  test('no token, one without rights, and other addresses are refused with nothing sent', async () => {
    const home = process.env.HF_TOKEN;
    process.env.HF_HUB_DISABLE_IMPLICIT_TOKEN = '1';
    try {
      expect(await codeOf(pushed({ token: undefined }))).toBe('unauthorised');
    } finally {
      delete process.env.HF_HUB_DISABLE_IMPLICIT_TOKEN;
      if (home !== undefined) process.env.HF_TOKEN = home;
    }
    expect(hub.seen).toEqual([]);
    hub.writes.token = 'hf_owner';
    await expect(pushed()).rejects.toMatchObject({
      code: 'unauthorised',
      message: expect.stringContaining('right'),
    });
    expect(hub.writes.uploads).toBe(0);
    expect(await codeOf(pushed({ offline: true }))).toBe('offline');
    expect(await codeOf(pushed({}, `hf:acme/tiny@${'a'.repeat(40)}`))).toBe('invalid-argument');
    expect(await codeOf(push(path.join(root, 'nowhere'), 'hf:acme/tiny', settings()))).toBe('io');
    expect(await codeOf(push(path.join(folder, 'config.json'), 'hf:acme/tiny', settings()))).toBe(
      'invalid-argument',
    );
    mkdirSync(path.join(root, 'bare'));
    expect(await codeOf(push(path.join(root, 'bare'), 'hf:acme/tiny', settings()))).toBe('invalid-argument');
    expect(hub.writes.commits).toEqual([]);
  });
});

describe('faults', () => {
  test('broken lines, full servers and addresses that are too old pass', async () => {
    const faults = [{ cutAfter: 1000 }, { status: 503 }, { status: 403 }];
    hub.writes.uploadFault = (n) => faults[n];
    let asked = 0;
    hub.hubFault = (url) => (url.includes('preupload') && asked++ === 0 ? [500] : undefined);
    await pushed();
    expect(await fetched()).toEqual(content);
    expect(hub.writes.uploads).toBe(5);
  });

  test('a line that stalls is given up, and tried again', async () => {
    put('large.bin', noise(6_000_000));
    hub.writes.uploadFault = (n) => (n === 0 ? { stallAfter: 1000 } : undefined);
    await pushed({ stallTimeout: 500 });
    expect(hub.files.get('large.bin')?.bytes.length).toBe(6_000_000);
  });

  test('what does not pass leaves the branch as it was', async () => {
    hub.writes.uploadFault = () => ({ status: 500 });
    expect(await codeOf(pushed({ retries: 1 }))).toBe('network');
    expect(hub.writes.commits).toEqual([]);
    expect(hub.files.size).toBe(0);
  });

  test('a commit whose answer got lost is known again, and a branch that moved is not written over', async () => {
    hub.writes.losesAnswer = (n) => n === 0;
    const { commit } = await pushed();
    expect(commit).toBe(hub.commit);
    expect(hub.writes.commits).toHaveLength(1);
    put('config.json', '{"a":3}');
    let moved = false;
    hub.hubFault = (url) => {
      if (url.includes('preupload') && !moved) {
        moved = true;
        hub.commit = 'f'.repeat(40);
      }
      return undefined;
    };
    await expect(pushed()).rejects.toThrow(/changed meanwhile/);
    expect(hub.files.get('config.json')?.bytes.toString()).toBe('{"a":1}');
  });

  test('stops when told to, in the middle of a file', async () => {
    const stop = new AbortController();
    put('large.bin', noise(3_000_000));
    const pushing = pushed({
      signal: stop.signal,
      onProgress: ({ file, done }) => file === 'large.bin' && done > 0 && stop.abort(),
    });
    expect(await codeOf(pushing)).toBe('AbortError');
    expect(hub.writes.commits).toEqual([]);
  });

  test('a file that changes meanwhile is not sent', async () => {
    let touched = false;
    const pushing = pushed({
      onProgress: ({ file }) => {
        if (file !== 'weights/one.safetensors' || touched) return;
        touched = true;
        put('weights/two.pt', noise(6000, 3));
      },
    });
    await expect(pushing).rejects.toThrow(/was changed while it was being pushed/);
    expect(hub.writes.commits).toEqual([]);
  });

  test('an address that nothing should be sent to is not used', async () => {
    const { answer } = hub.writes;
    hub.writes.answer = async (request, response) => {
      if (!request.url?.includes('objects/batch')) return answer.call(hub.writes, request, response);
      const chunks: Buffer[] = [];
      for await (const part of request) chunks.push(part);
      const { objects } = JSON.parse(Buffer.concat(chunks).toString());
      const actions = { upload: { href: 'file:///etc/passwd' } };
      response.end(JSON.stringify({ objects: [{ ...objects[0], actions }] }));
    };
    await expect(pushed()).rejects.toThrow(/nothing is sent to/);
  });
});
