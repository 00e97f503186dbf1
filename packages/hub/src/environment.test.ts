import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { nodeHubSettings } from './environment';

let home: string;
beforeEach(() => {
  home = mkdtempSync(path.join(tmpdir(), 'hub-env-'));
});
afterEach(() => rmSync(home, { recursive: true }));

test('defaults', async () => {
  const settings = await nodeHubSettings({}, { HF_TOKEN: 'x' });
  expect(settings).toMatchObject({
    endpoint: 'https://huggingface.co',
    cache: path.join(homedir(), '.cache/huggingface/hub'),
    token: 'x',
    offline: false,
    metadataTimeout: 10_000,
    stallTimeout: 10_000,
  });
});

test('every variable that Python reads', async () => {
  writeFileSync(path.join(home, 'token'), 'from-home\n');
  writeFileSync(path.join(home, 'other'), 'from-path');
  const read = (env: Record<string, string>) => nodeHubSettings({}, { HF_HOME: home, ...env });
  expect(await read({})).toMatchObject({ cache: path.join(home, 'hub'), token: 'from-home' });
  expect(await read({ HF_TOKEN_PATH: path.join(home, 'other') })).toMatchObject({ token: 'from-path' });
  expect((await read({ HF_TOKEN_PATH: path.join(home, 'none') })).token).toBeUndefined();
  expect(await read({ HF_TOKEN: ' given \n' })).toMatchObject({ token: 'given' });
  expect((await read({ HF_HUB_DISABLE_IMPLICIT_TOKEN: '1' })).token).toBeUndefined();
  expect(await read({ HF_HUB_CACHE: '$HF_HOME/c' })).toMatchObject({ cache: path.join(home, 'c') });
  expect(await read({ HF_HUB_CACHE: '~/c' })).toMatchObject({ cache: path.join(homedir(), 'c') });
  expect(await read({ HF_ENDPOINT: 'http://mirror.example/' })).toMatchObject({
    endpoint: 'http://mirror.example',
  });
  for (const yes of ['1', 'ON', 'yes', 'True'])
    expect(await read({ HF_HUB_OFFLINE: yes })).toMatchObject({ offline: true });
  for (const no of ['0', 'off', ''])
    expect(await read({ HF_HUB_OFFLINE: no })).toMatchObject({ offline: false });
  expect(await read({ HF_HUB_ETAG_TIMEOUT: '3', HF_HUB_DOWNLOAD_TIMEOUT: '0.5' })).toMatchObject({
    metadataTimeout: 3000,
    stallTimeout: 500,
  });
  const options = {
    cache: home,
    token: 'mine',
    offline: false,
    endpoint: 'http://a.example',
    stallTimeout: 7,
  };
  const env = {
    HF_TOKEN: 'x',
    HF_HUB_OFFLINE: '1',
    HF_ENDPOINT: 'http://b.example',
    HF_HUB_DOWNLOAD_TIMEOUT: '9',
  };
  expect(await nodeHubSettings(options, env)).toMatchObject(options);
});

test.each([
  { HF_HUB_ETAG_TIMEOUT: 'soon' },
  { HF_HUB_DOWNLOAD_TIMEOUT: '-1' },
  { HF_HUB_DOWNLOAD_TIMEOUT: '1e9' },
  { HF_ENDPOINT: 'mirror' },
  { HF_ENDPOINT: 'file:///etc' },
  { HF_ENDPOINT: 'http://user:password@mirror.example' },
  { HF_TOKEN: 'a\nX-Injected: 1' },
])('%j is refused', async (env) => {
  await expect(
    nodeHubSettings({}, { HF_HOME: home, ...env } as Record<string, string | undefined>),
  ).rejects.toMatchObject({ code: 'invalid-argument' });
});
