import { fileURLToPath } from 'node:url';
import type { Browser, Page } from 'playwright-core';
import { build, type Rollup } from 'vite';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { browserPath } from '../../tools/webgpu/driver.mjs';
import { StandInHub } from '../stand-in-hub';
import { openBrowser } from './browser';

const bytes = Uint8Array.from({ length: 200_000 }, (_, i) => (i * 2654435761) >>> 11);
const sum = bytes.reduce((total, byte) => total + byte, 0);

describe.skipIf(!browserPath)('a repository of the hub, in a page', () => {
  let browser: Browser;
  let page: Page;
  let hub: StandInHub;
  beforeAll(async () => {
    const entry = fileURLToPath(new URL('../../packages/hub/dist/index.js', import.meta.url));
    const built = await build({
      configFile: false,
      logLevel: 'error',
      build: { write: false, lib: { entry, formats: ['es'] } },
    });
    const [{ output }] = built as Rollup.RollupOutput[];
    hub = await new StandInHub().start();
    hub
      .add('config.json', new TextEncoder().encode('{"a":1}'))
      .add('folder/weights.pt', bytes, { large: true });
    hub.pages.set('/hub.js', ['text/javascript', output[0].code]);
    hub.pages.set('/page.html', [
      'text/html',
      '<!doctype html><title>hub</title><script type="module">import * as hub from "/hub.js"; window.hub = hub;</script>',
    ]);
    browser = await openBrowser();
  }, 120_000);
  afterAll(async () => {
    await browser?.close();
    await hub?.stop();
  });
  beforeEach(async () => {
    hub.contentFault = () => undefined;
    hub.token = undefined;
    hub.listed = [];
    hub.seen.length = 0;
    page = await (await browser.newContext()).newPage(); // with an empty cache
    await page.goto(`${hub.endpoint}/page.html`);
  });

  /** Opens a file and adds its bytes up; or says with which code that failed. */
  const open = async (file: string, options: object = {}) => {
    await page.waitForFunction(() => 'hub' in window);
    return page.evaluate(
      async ([path, given]) => {
        const { openHubInPage } = (window as unknown as { hub: typeof import('@detailflow/hub') }).hub;
        const seen: number[] = [];
        const settings = {
          endpoint: location.origin,
          retryDelay: 5,
          stallTimeout: 20_000,
          ...(given as object),
        };
        try {
          const onProgress = ({ done }: { done: number }) => seen.push(done);
          const tree = await openHubInPage('hf:acme/tiny', { ...settings, onProgress });
          const source = await tree.open(path);
          const read = await source.read(0, source.size);
          const list = await tree.list('folder');
          return {
            sum: read.reduce((total, byte) => total + byte, 0),
            list,
            done: seen.at(-1),
            name: source.name,
          };
        } catch (error) {
          return { code: (error as { code?: string }).code, message: (error as Error).message };
        }
      },
      [file, options] as const,
    );
  };

  test('is fetched once, checked, and kept', async () => {
    const before = hub.transfers('folder/weights.pt');
    const expected = {
      sum,
      list: ['weights.pt'],
      done: bytes.length,
      name: 'hf:acme/tiny/folder/weights.pt',
    };
    expect(await open('folder/weights.pt')).toEqual(expected);
    await page.reload();
    expect(await open('folder/weights.pt')).toEqual(expected);
    expect(hub.transfers('folder/weights.pt') - before).toBe(1);
    expect(await open('config.json')).toMatchObject({ done: 7 });
  });

  test('goes on where it was cut', async () => {
    const before = hub.transfers('folder/weights.pt');
    hub.contentFault = (_, n) => (n === before ? { cutAfter: 90_000 } : undefined);
    expect(await open('folder/weights.pt')).toMatchObject({ sum });
    expect(hub.transfers('folder/weights.pt') - before).toBe(2);
    expect(hub.seen.filter(({ host, headers }) => host === 'content' && headers.range)).toHaveLength(1);
  });

  test.each([
    ['flipped', { flip: 1000 }],
    ['too many', { extra: 3 }],
  ])('bytes that are %s are refused and not kept', async (_, fault) => {
    hub.contentFault = () => fault;
    expect(await open('folder/weights.pt')).toMatchObject({ code: 'corrupt' });
    hub.contentFault = () => undefined;
    expect(await open('folder/weights.pt')).toMatchObject({ sum });
  });

  test('the token goes to the hub and nowhere else; refusals have their codes', async () => {
    hub.token = 'hf_secret';
    expect(await open('config.json')).toMatchObject({ code: 'not-found' });
    expect(await open('folder/weights.pt', { token: 'hf_secret' })).toMatchObject({ sum });
    const content = hub.seen.filter(({ host, method }) => host === 'content' && method === 'GET');
    expect(content).not.toEqual([]);
    for (const { headers } of content) expect(headers.authorization).toBeUndefined();
    expect(await open('none.json', { token: 'hf_secret' })).toMatchObject({ code: 'not-found' });
    hub.listed = [{ type: 'file', path: '../x', size: 1, oid: 'c'.repeat(40) }];
    expect(await open('config.json', { token: 'hf_secret' })).toMatchObject({ code: 'format' });
  });
});
