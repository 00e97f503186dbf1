import { execFile, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { openHub, push } from '@detailflow/hub/node';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { StandInHub } from './stand-in-hub';

const { HUB_PYTHON: python = 'python3' } = process.env;
const isThere = spawnSync(python, ['-c', 'import huggingface_hub'], { stdio: 'ignore' }).status === 0;
if (!isThere) {
  console.warn(
    `THE CACHE IS NOT COMPARED WITH PYTHON'S: ${python} has no huggingface_hub; HUB_PYTHON may name a Python that has`,
  );
}

describe.skipIf(!isThere)('one cache with huggingface_hub of Python', () => {
  let hub: StandInHub;
  let cache: string;
  beforeEach(async () => {
    cache = mkdtempSync(path.join(tmpdir(), 'hub-python-'));
    hub = await new StandInHub().start();
    hub.add('config.json', new TextEncoder().encode('{"a":1}'));
    hub.add('folder/weights.pt', new Uint8Array(300_000).fill(3), { large: true });
  });
  afterEach(async () => {
    await hub.stop();
    rmSync(cache, { recursive: true });
  });

  const run = async (code: string, more: Record<string, string> = {}) => {
    const own = { HF_ENDPOINT: hub.endpoint, HF_HUB_CACHE: cache, HF_HOME: cache, HF_HUB_DISABLE_XET: '1' };
    const env = { ...process.env, ...own, HF_HUB_DISABLE_TELEMETRY: '1', ...more };
    return (await promisify(execFile)(python, ['-c', code], { env })).stdout.trim();
  };
  const fetched = "from huggingface_hub import *; print(snapshot_download('acme/tiny'))";
  const open = (options = {}) => openHub('hf:acme/tiny', { endpoint: hub.endpoint, cache, ...options });
  const transfers = () => [...hub.files.keys()].map((file) => hub.transfers(file));

  test('what Python fetched is used here', async () => {
    const folder = await run(fetched);
    expect(await (await open()).fetch()).toBe(folder);
    expect(await (await open({ offline: true })).fetch()).toBe(folder);
    expect(transfers()).toEqual([1, 1]);
  });

  test('what is fetched here is used by Python, also offline, and in its lists', async () => {
    const folder = await (await open()).fetch();
    expect(await run(fetched)).toBe(folder);
    expect(await run(fetched, { HF_HUB_OFFLINE: '1' })).toBe(folder);
    expect(transfers()).toEqual([1, 1]);
    const scan =
      'from huggingface_hub import *; i = scan_cache_dir(); print(len(i.warnings), i.size_on_disk, len(i.repos))';
    expect(await run(scan)).toBe('0 300007 1');
  });

  test('what is pushed here is fetched by Python, and the other way round', async () => {
    const model = path.join(cache, 'model');
    mkdirSync(path.join(model, 'weights'), { recursive: true });
    writeFileSync(path.join(model, 'weights/one.safetensors'), new Uint8Array(50_000).fill(7));
    writeFileSync(path.join(model, 'notes.txt'), 'ours');
    const { commit } = await push(model, 'hf:acme/tiny', { endpoint: hub.endpoint, cache, token: 'hf_x' });
    expect(commit).toBe(hub.commit);
    const folder = await run(fetched);
    expect(readFileSync(path.join(folder, 'weights/one.safetensors'))).toEqual(Buffer.alloc(50_000, 7));
    writeFileSync(path.join(model, 'notes.txt'), 'theirs');
    writeFileSync(path.join(model, 'weights/two.safetensors'), new Uint8Array(60_000).fill(8));
    const upload = `from huggingface_hub import *; upload_folder(repo_id='acme/tiny', folder_path=${JSON.stringify(model)})`;
    await run(upload, { HF_TOKEN: 'hf_x' });
    const files = await open();
    const two = await files.open('weights/two.safetensors');
    expect(Buffer.from(await two.read(0, two.size))).toEqual(Buffer.alloc(60_000, 8));
    const again = await push(model, 'hf:acme/tiny', { endpoint: hub.endpoint, cache, token: 'hf_x' });
    expect(again.files.map(({ state }) => state)).toEqual(['unchanged', 'unchanged', 'unchanged']);
  });

  test.skipIf(process.platform !== 'linux')("Python's lock is waited for", async () => {
    const lock = path.join(cache, '.locks/models--acme--tiny', `${hub.etag('config.json')}.lock`);
    const code = `import os, time
from filelock import FileLock
os.makedirs(os.path.dirname(${JSON.stringify(lock)}))
with FileLock(${JSON.stringify(lock)}):
    print('held', flush=True)
    time.sleep(1)
    open(${JSON.stringify(path.join(cache, 'released'))}, 'w').close()
`;
    const holder = spawn(python, ['-c', code], { stdio: ['ignore', 'pipe', 'inherit'] });
    await once(holder.stdout, 'data');
    const notices: string[] = [];
    await (
      await (await open({ onNotice: (message: string) => notices.push(message) })).open('config.json')
    ).close?.();
    expect(statSync(path.join(cache, 'released')).isFile()).toBe(true);
    expect(notices.join()).toContain('another program is fetching it');
  });
});
