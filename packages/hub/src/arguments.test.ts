import { expect, test } from 'vitest';
import type { HubAddress } from './address';
import { hubAddressOf } from './address';
import { type OpenHubOptions, openHub } from './hub-folder';
import { type HubSettings, hubSettings } from './hub-options';
import { push } from './push';
import { fetchRemote, isRemote, openRemote, openRemoteFile, remotePath } from './remote';

const refused = (message: RegExp) => ({ code: 'invalid-argument', message: expect.stringMatching(message) });
/** Nobody is asked: what is wrong is said before. */
const options = {
  cache: '/nowhere',
  fetch: () => {
    throw new Error('a server was asked');
  },
} as unknown as OpenHubOptions;

test.each([undefined, null, 5, {}])('no address: %o', async (given) => {
  const address = given as unknown as string;
  const message = /address/;
  await expect(openHub(address, options)).rejects.toMatchObject(refused(message));
  await expect(openRemote(address, options)).rejects.toMatchObject(refused(message));
  await expect(openRemoteFile(address, options)).rejects.toMatchObject(refused(message));
  await expect(fetchRemote(address, options)).rejects.toMatchObject(refused(message));
  await expect(push(import.meta.dirname, address, { token: 'x', ...options } as never)).rejects.toMatchObject(
    refused(message),
  );
  expect([isRemote(address), remotePath(address)]).toEqual([false, '']);
});

test('parts of an address are looked at as its text is', () => {
  const address: HubAddress = { type: 'dataset', repository: 'a/b', revision: 'refs/pr/1', path: 'c/d' };
  expect(hubAddressOf(address)).toEqual(address);
  for (const part of [
    { repository: '../../etc' },
    { repository: 'a/b@c' },
    { repository: 'a/b/c' },
    { repository: undefined },
    { path: '../secret' },
    { revision: '..' },
    { type: 'space' },
  ]) {
    const wrong = { ...address, ...part } as unknown as HubAddress;
    expect(() => hubAddressOf(wrong), JSON.stringify(part)).toThrow(
      expect.objectContaining(refused(/address/)),
    );
  }
});

// With a number of times that is none, a server that is down would be asked for ever.
test.each<[string, unknown]>([
  ['retries', Number.NaN],
  ['retries', 'often'],
  ['retries', -1],
  ['metadataTimeout', Number.NaN],
  ['metadataTimeout', 0.5],
  ['stallTimeout', 0],
  ['stallTimeout', 1e12],
  ['retryDelay', -1],
  ['longestWait', Number.POSITIVE_INFINITY],
  ['signal', {}],
  ['onNotice', console],
  ['fetch', 5],
  ['redirect', 'error'],
  ['endpoint', 5],
  ['endpoint', 'mirror'],
  ['token', 5],
])('no setting: %s %o', (name, value) => {
  const settings = { [name]: value } as Partial<HubSettings>;
  expect(() => hubSettings(settings)).toThrow(expect.objectContaining(refused(new RegExp(`^${name} is `))));
});

test.each<[string, unknown]>([
  ['cache', 5],
  ['urlCache', ''],
  ['offline', 'no'], // it would be taken for yes
  ['allow', '*.json'],
  ['partial', [5]],
  ['onProgress', 5],
  ['signal', 'now'],
])('no option: %s %o', async (name, value) => {
  const given = { ...options, [name]: value } as OpenHubOptions;
  for (const open of [() => openHub('hf:a/b', given), () => fetchRemote('http://127.0.0.1:9/x', given)]) {
    await expect(open()).rejects.toMatchObject(refused(new RegExp(`^(the )?${name}( of \\w+)? is `)));
  }
});

test.each<[string, unknown]>([
  ['dryRun', 'false'],
  ['isPrivate', 'no'],
  ['create', 1],
  ['message', 5],
])('no option of push: %s %o', async (name, value) => {
  const pushing = push(import.meta.dirname, 'hf:a/b', { ...options, [name]: value } as never);
  await expect(pushing).rejects.toMatchObject(refused(new RegExp(`^${name} is `)));
});

test('a password in an address is not sent, and not repeated', async () => {
  for (const address of ['https://:hunter2@127.0.0.1:9/x.pt', 'https://me:hunter2@127.0.0.1:9/x.pt']) {
    for (const open of [fetchRemote, openRemote]) {
      const error = await open(address, options).catch((thrown) => thrown);
      expect(error).toMatchObject(refused(/user or password/));
      expect(error.message).not.toContain('hunter2');
    }
  }
});
