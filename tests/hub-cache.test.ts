import { execFile, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  lstatSync,
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
import { promisify } from 'node:util';
import { type OpenHubOptions, openHub } from '@detailflow/hub/node';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { inRepository } from './cli';
import { StandInHub } from './stand-in-hub';

/** What Python's library wrote, as tools/reference/hub-cache.py lists it. */
interface Listing {
  readonly version: string;
  readonly entries: Readonly<Record<string, Entry>>;
}
interface Entry {
  readonly link?: string;
  readonly size?: number;
  /** With umask 022. */
  readonly mode?: string;
  readonly sha256?: string;
  readonly text?: string;
}

const { HUB_PYTHON: python = 'python3', HUB_CACHE_LISTING: written } = process.env;
const probe = `import importlib.util, huggingface_hub
print(huggingface_hub.__version__, importlib.util.find_spec('huggingface_hub.utils._shared_blobs') is not None)`;
const [installed, knowsStore] = spawnSync(python, ['-c', probe]).stdout?.toString().trim().split(' ') ?? [];
const isInstalled = /^\d/.test(installed ?? '');
if (!isInstalled)
  console.warn(
    `THE CACHE LISTING IS NOT MADE ANEW BY PYTHON: ${python} has no huggingface_hub; HUB_PYTHON may name one that has`,
  );

const KINDS = ['links', 'copies', 'shared'] as const;
type Kind = (typeof KINDS)[number];
const fixture = inRepository('tests/fixtures/hub-cache.json');
const listings: Partial<Record<Kind, Listing>> = existsSync(fixture)
  ? JSON.parse(readFileSync(fixture, 'utf8'))
  : {};

const FIRST = '0123456789abcdef0123456789abcdef01234567';
const SECOND = '89abcdef0123456789abcdef0123456789abcdef';
const BRANCH = 'branches/one';
const SHARED = 'ab'.repeat(32);
const MISSING = 'folder/missing.json';
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
const pattern = (length: number) => Uint8Array.from({ length }, (_, i) => (i * 2654435761) >>> 13);

const contents = {
  before: new TextEncoder().encode('{"a":1}'),
  after: new TextEncoder().encode('{"a":2,"b":3}'),
  weights: pattern(5000),
  notes: new TextEncoder().encode('notes\n'),
};
/** The repository at a commit: config.json differs, the others stay. */
const files = (commit: string) => ({
  'config.json': commit === FIRST ? contents.before : contents.after,
  'weights.safetensors': contents.weights,
  'folder/inner/notes.txt': contents.notes,
});
const bySha256 = new Map(Object.values(contents).map((bytes) => [sha256(bytes), bytes]));

let hub: StandInHub;
let folder: string;
let cache: string;
beforeEach(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'hub-cache-'));
  cache = path.join(folder, 'hub');
  hub = await new StandInHub().start();
  hub.branches.add(BRANCH);
  setCommit(FIRST);
});
afterEach(async () => {
  await hub.stop();
  rmSync(folder, { recursive: true });
});

function setCommit(commit: string): void {
  hub.commit = commit;
  for (const [file, bytes] of Object.entries(files(commit))) {
    hub.add(file, bytes, { large: file.endsWith('.safetensors') });
  }
}

const transfers = () => [...hub.files.keys()].reduce((sum, file) => sum + hub.transfers(file), 0);

const open = (revision: string, options: OpenHubOptions = {}) =>
  openHub(`hf:acme/tiny@${encodeURIComponent(revision)}`, {
    endpoint: hub.endpoint,
    cache,
    retryDelay: 5,
    ...options,
  });

/** Lists what a cache holds, as the program in Python does. */
function listed(): Record<string, Entry> {
  const found = readdirSync(cache, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry): [string, Entry] => {
      const full = path.join(entry.parentPath, entry.name);
      const place = path.relative(cache, full).split(path.sep).join('/');
      if (entry.isSymbolicLink()) return [place, { link: readlinkSync(full).split(path.sep).join('/') }];
      const bytes = readFileSync(full);
      const mode = (lstatSync(full).mode & 0o777).toString(8);
      const hash = sha256(bytes);
      const common = { size: bytes.length, mode };
      return [
        place,
        bySha256.has(hash) ? { ...common, sha256: hash } : { ...common, text: bytes.toString() },
      ];
    });
  return Object.fromEntries(found);
}

/** Builds a cache as it is listed. */
function build({ entries }: Listing): void {
  for (const [place, { link, mode, sha256: hash, text }] of Object.entries(entries)) {
    const full = path.join(cache, ...place.split('/'));
    mkdirSync(path.dirname(full), { recursive: true });
    if (link !== undefined) symlinkSync(link, full);
    else {
      writeFileSync(full, hash === undefined ? (text as string) : (bySha256.get(hash) as Uint8Array));
      chmodSync(full, Number.parseInt(mode as string, 8));
    }
  }
}

/** Entries that Python alone writes, and why they need not be there. */
const OF_PYTHON: readonly (readonly [RegExp, string])[] = [
  [/^\.locks\/models--acme--tiny\/[0-9a-f]{40,64}\.lock$/, 'its locks; ours have names of their own'],
  [/^models--acme--tiny\/\.no_exist\//, 'files that it asked for in vain; ours asks for what is listed only'],
  [/^models--acme--tiny\/trees\/[0-9a-f]{40}\.json$/, 'listings, which it takes for a cache of its own'],
];
/** Entries that are ours alone, beside Python's locks, where it looks for its own names only. */
const OURS = /^\.locks\/models--acme--tiny\/[0-9a-f]{40,64}\.detailflow\.checked$/;

/** An entry a line. */
const text = (all: Partial<Record<Kind, Listing>>) =>
  `{\n${Object.entries(all)
    .map(([kind, { version, entries }]) => {
      const lines = Object.entries(entries).map((entry) =>
        entry.map((one) => JSON.stringify(one)).join(': '),
      );
      return `"${kind}": {"version": "${version}", "entries": {\n${lines.join(',\n')}\n}}`;
    })
    .join(',\n')}\n}\n`;

/** Runs the program in Python: the first commit, then the second by two names, so that the ref moves. */
async function madeByPython(kind: Kind): Promise<Listing> {
  const run = async (...more: string[]) => {
    const program = inRepository('tools/reference/hub-cache.py');
    const env = { ...process.env, ...(kind === 'copies' && { HF_HUB_DISABLE_SYMLINKS: '1' }) };
    const { stdout } = await promisify(execFile)(python, ['-B', program, hub.endpoint, cache, ...more], {
      env,
    });
    return JSON.parse(stdout) as Listing;
  };
  await run('main');
  setCommit(SECOND);
  return run(
    ...['main', BRANCH, '--missing', MISSING],
    ...(kind === 'shared' ? ['--shared', `weights.safetensors=${SHARED}`] : []),
  );
}

describe.skipIf(!isInstalled)("Python's library", () => {
  const made: Partial<Record<Kind, Listing>> = {};
  // Older versions have no store that repositories share.
  test.each(KINDS.filter((kind) => kind !== 'shared' || knowsStore === 'True'))(
    'writes what is listed: %s',
    async (kind) => {
      made[kind] = await madeByPython(kind);
      if (written !== undefined) writeFileSync(written, text(made));
      // Other versions may write other things; what they are read by is tried below with what this one wrote.
      else if (installed === listings[kind]?.version) expect(made[kind]).toEqual(listings[kind]);
      const before = transfers();
      expect(await contentsOf(await open('main', { offline: true }))).toEqual(files(SECOND));
      expect(await contentsOf(await open('main'))).toEqual(files(SECOND));
      expect(transfers()).toBe(before);
    },
  );
});

async function contentsOf(tree: Awaited<ReturnType<typeof openHub>>): Promise<Record<string, Uint8Array>> {
  const found: Record<string, Uint8Array> = {};
  const visit = async (names: readonly string[]) => {
    for (const name of names) {
      const source = await tree.open(name);
      found[name] = new Uint8Array(await source.read(0, source.size));
      await source.close?.();
    }
  };
  await visit(await tree.list(''));
  await visit((await tree.list('folder/inner')).map((name) => `folder/inner/${name}`));
  return found;
}

const listing = (kind: Kind): Listing => listings[kind] as Listing;

test('a cache that is filled here is the one that is listed', async () => {
  await (await open('main')).fetch();
  setCommit(SECOND);
  await (await open('main')).fetch();
  await (await open(BRANCH)).fetch();
  const found = Object.entries(listed()).filter(([place]) => !OURS.test(place));
  const theirs = Object.entries(listing('links').entries);
  for (const [which] of OF_PYTHON) expect(theirs.filter(([place]) => which.test(place))).not.toEqual([]);
  const common = theirs.filter(([place]) => !OF_PYTHON.some(([which]) => which.test(place)));
  // Listed with umask 022; here files are as open as this process makes them.
  expect(common.flatMap(([, { mode }]) => mode ?? []).every((mode) => mode === '644')).toBe(true);
  const mode = (0o666 & ~process.umask()).toString(8);
  const expected = common.map(([place, entry]) => [place, entry.mode ? { ...entry, mode } : entry]);
  expect(Object.fromEntries(found)).toEqual(Object.fromEntries(expected));
});

describe.each(KINDS)('a cache that Python filled: %s', (kind) => {
  test('is read offline, and left as it is', async () => {
    build(listing(kind));
    expect(Object.keys(listed())).toEqual(expect.arrayContaining(Object.keys(listing(kind).entries)));
    const notices: string[] = [];
    const onNotice = (message: string) => void notices.push(message);
    for (const [revision, commit] of [
      ['main', SECOND],
      [BRANCH, SECOND],
      [FIRST, FIRST],
    ]) {
      const tree = await open(revision, { offline: true, onNotice });
      expect(await contentsOf(tree)).toEqual(files(commit));
      expect(await tree.fetch()).toBe(path.join(cache, 'models--acme--tiny/snapshots', commit));
      await expect(tree.open(MISSING)).rejects.toMatchObject({ code: 'offline' });
    }
    expect(hub.seen).toEqual([]);
    // Copies have no hash beside them; all others are compared with theirs.
    expect(notices.some((notice) => notice.includes('is not checked'))).toBe(kind === 'copies');
    const left = Object.entries(listed()).filter(([place]) => !OURS.test(place));
    expect(Object.fromEntries(left)).toEqual(listing(kind).entries);
  });

  test.each(['whole', 'by ranges'])('is used in place of the hub: %s', async (way) => {
    build(listing(kind));
    const partial = way === 'whole' ? [] : ['*'];
    for (const commit of [SECOND, FIRST]) {
      setCommit(commit);
      expect(await contentsOf(await open(commit, { partial }))).toEqual(files(commit));
    }
    expect(transfers()).toBe(0);
    // A copy of what another revision has, too, becomes a link.
    const kept = Object.entries(listing(kind).entries).filter(
      ([, entry]) => kind !== 'copies' || entry.sha256 === undefined,
    );
    expect(listed()).toMatchObject(Object.fromEntries(kept));
  });

  test('is fetched anew where it is damaged, and no other file is touched', async () => {
    build(listing(kind));
    setCommit(SECOND);
    const pointer = path.join(cache, `models--acme--tiny/snapshots/${SECOND}/weights.safetensors`);
    const damaged = Uint8Array.from(contents.weights);
    damaged[1000] ^= 4;
    chmodSync(pointer, 0o644);
    writeFileSync(pointer, damaged);
    const store = path.join(cache, 'blobs/ab', SHARED);
    if (kind !== 'copies') {
      const offline = await open('main', { offline: true });
      await expect(offline.open('weights.safetensors')).rejects.toMatchObject({ code: 'corrupt' });
    }
    expect(await contentsOf(await open('main'))).toEqual(files(SECOND));
    expect(hub.transfers('weights.safetensors')).toBe(1);
    expect(transfers()).toBe(1);
    // Python's other repositories may hold it to be theirs.
    if (kind === 'shared') expect(new Uint8Array(readFileSync(store))).toEqual(damaged);
    expect(await contentsOf(await open('main', { offline: true }))).toEqual(files(SECOND));
  });
});

test('a shared file that was swept is fetched, and offline its lack is said', async () => {
  build(listing('shared'));
  setCommit(SECOND);
  rmSync(path.join(cache, 'blobs'), { recursive: true });
  const offline = await open('main', { offline: true });
  await expect(offline.open('weights.safetensors')).rejects.toMatchObject({ code: 'offline' });
  expect(await offline.exists('weights.safetensors')).toBe(false);
  expect(await contentsOf(await open('main'))).toEqual(files(SECOND));
  expect(transfers()).toBe(1);
});

test('what else Python keeps there is neither read nor removed: unfinished files, stores, locks, tags', async () => {
  build(listing('links'));
  setCommit(SECOND);
  const repository = path.join(cache, 'models--acme--tiny');
  const etag = hub.etag('weights.safetensors');
  rmSync(path.join(repository, 'blobs', etag));
  const others = [
    `models--acme--tiny/blobs/${etag}.incomplete`,
    `models--acme--tiny/blobs/${etag}.1a2b3c4d.incomplete`,
    `models--acme--tiny/blobs/.${etag}.1a2b3c4d.shared`,
    'models--acme--tiny/trees/tmpabcdefgh.tmp',
    `.locks/models--acme--tiny/${etag}.lock.soft`,
    'blobs/.huggingface-shared-blobs.1a2b3c4d.tmp',
    'xet/chunk_cache/ab/abcdef',
    'xet/staging/shard-session/one.mdb',
    'assets/models--acme--tiny/one',
    'version.txt',
  ];
  for (const other of others) {
    mkdirSync(path.dirname(path.join(cache, other)), { recursive: true });
    writeFileSync(path.join(cache, other), 'of somebody else');
  }
  const tag = path.join(cache, 'CACHEDIR.TAG');
  writeFileSync(tag, 'Signature: 8a477f597d28d172789f06886806bc55\n# of another version\n');
  expect(await contentsOf(await open('main'))).toEqual(files(SECOND));
  expect(await contentsOf(await open('main', { offline: true }))).toEqual(files(SECOND));
  expect(transfers()).toBe(1);
  for (const other of others) expect(readFileSync(path.join(cache, other), 'utf8')).toBe('of somebody else');
  expect(readFileSync(tag, 'utf8')).toContain('of another version');
  expect(statSync(path.join(repository, 'blobs', etag)).size).toBe(contents.weights.length);
});
