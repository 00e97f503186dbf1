import type { Tokenizer } from '@detailflow/tokenizer';
import type { Model } from 'detailflow';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { browserPath } from '../../tools/webgpu/driver.mjs';
import { loadServed, type Served, startServed } from '../served';
import { openBrowser } from './browser';

describe.skipIf(!browserPath)('the page of a server', () => {
  let browser: Browser;
  let model: Model;
  let served: Served;
  beforeAll(async () => {
    model = await loadServed();
    browser = await openBrowser({ webgpu: false });
  }, 120_000);
  afterAll(async () => {
    await browser?.close();
    await model?.dispose();
  });

  /** Draws as a person does; the captions below the pictures, what the page says, and what its console does. */
  async function draw(width: number) {
    const page = await browser.newPage({ viewport: { width, height: 700 } });
    const said: string[] = [];
    page.on('console', (message) => said.push(message.text()));
    page.on('pageerror', (error) => said.push(String(error)));
    await page.goto(served.url);
    await page.selectOption('select', { index: 8 });
    await page.fill('input[name=n]', '2');
    await page.fill('input[name=seed]', '7');
    await page.click('button');
    await page.waitForFunction(() => document.querySelector('button')?.disabled === false);
    const captions = await page.locator('figcaption').allTextContents();
    const shown = await page.evaluate(() => ({
      sizes: Array.from(document.querySelectorAll('img')).map((one) => one.naturalWidth),
      overflow: document.documentElement.scrollWidth - innerWidth,
    }));
    const status = await page.textContent('#status');
    await page.close();
    return { captions, ...shown, said, status };
  }

  test.each([1280, 375])('draws what its form says, on a screen of %i', async (width) => {
    served = await startServed(model);
    const { captions, sizes, overflow, said, status } = await draw(width);
    expect([said, status]).toEqual([[], '']);
    expect(captions).toEqual(['32x32, seed 7', '32x32, seed 8']);
    expect([sizes, overflow]).toEqual([[32, 32], 0]);
    await served.server.close();
  });

  test('asks for no previews of a model whose first tokens show nothing', async () => {
    const { family, cfg, tokenModel } = model;
    const tokenizer = new Proxy(model.tokenizer as Tokenizer, {
      get(target, name) {
        const value = name === 'previews' ? 'none' : Reflect.get(target, name, target);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
    served = await startServed({ family, cfg, tokenModel, tokenizer });
    expect(await draw(1280)).toMatchObject({
      status: '',
      said: [],
      captions: [/seed 7$/, /seed 8$/].map((end) => expect.stringMatching(end)),
    });
    await served.server.close();
  });
});
