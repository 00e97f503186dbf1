import { execFileSync } from 'node:child_process';
import { mkdir, readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import type { Browser, Page } from 'playwright-core';
import sharp from 'sharp';
import { type PreviewServer, preview } from 'vite';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { browserPath } from '../../tools/webgpu/driver.mjs';
import { openBrowser } from './browser';

const root = fileURLToPath(new URL('../../examples/browser/', import.meta.url));
const out = fileURLToPath(new URL('../../out/page/', import.meta.url));
/** The most that the page's JavaScript may weigh after gzip, tfjs included. */
const SIZE_LIMIT = 400_000;

describe.skipIf(!browserPath)('the page', () => {
  let server: PreviewServer;
  let browser: Browser;
  let page: Page;
  const problems: string[] = [];

  beforeAll(async () => {
    await mkdir(out, { recursive: true });
    // As a user builds it: inside this process it would be built for development, without its service worker.
    execFileSync('npm', ['run', 'bundle'], {
      cwd: root,
      env: { ...process.env, NODE_ENV: undefined },
      stdio: 'pipe',
    });
    server = await preview({ root, preview: { port: 0, host: '127.0.0.1' }, logLevel: 'error' });
    browser = await openBrowser();
    page = await browser.newPage({ viewport: { width: 1100, height: 760 } });
    page.on('pageerror', (error) => problems.push(error.message));
    page.on('console', (message) => message.type() === 'error' && problems.push(message.text()));
    await page.goto(server.resolvedUrls?.local[0] as string);
  }, 120_000);
  afterAll(async () => {
    await browser?.close();
    await server?.close();
  });

  const until = (pattern: RegExp, timeout = 120_000) =>
    page.waitForFunction(
      ([source]) => new RegExp(source).test(document.querySelector('#status')?.textContent ?? ''),
      [pattern.source],
      { timeout },
    );
  const screenshot = (name: string) =>
    page.screenshot({ path: path.join(out, `${name}.png`), fullPage: true });
  /** Mean and deviation of what a canvas shows. */
  const look = async (selector: string) => {
    const url = await page.locator(selector).evaluate((canvas) => (canvas as HTMLCanvasElement).toDataURL());
    const { channels } = await sharp(Buffer.from(url.split(',')[1], 'base64'))
      .removeAlpha()
      .stats();
    return { mean: channels[0].mean, deviation: channels[0].stdev };
  };

  test('loads the model, and knows its classes', async () => {
    await until(/^Ready, on /);
    expect(await page.getByRole('radio', { name: 'trouser' }).count()).toBe(1);
    await screenshot('ready');
  }, 150_000);

  test('generates nine pictures of a class, with previews on the way; the slider goes back to coarse', async () => {
    await page.getByRole('radio', { name: 'ankle boot' }).check();
    await page.getByRole('button', { name: 'Generate' }).click();
    await until(/^[1-9]\d* of 64 tokens after/);
    expect(await page.getByRole('button', { name: 'Cancel' }).isEnabled()).toBe(true);
    await until(/^Done in /, 240_000);
    const fine = await look('#picture');
    expect(fine.deviation).toBeGreaterThan(30);
    await screenshot('nine-boots');
    const slider = page.getByLabel(/Tokens/);
    await slider.focus();
    await page.keyboard.press('Home');
    expect(await page.locator('#tokens-value').textContent()).toBe('1 of 64');
    const coarse = await look('#picture');
    expect(coarse.deviation).toBeLessThan(fine.deviation);
    await page.keyboard.press('End');
    expect(await look('#picture')).toEqual(fine);
  }, 300_000);

  test('cancels, and generates again', async () => {
    await page.getByRole('button', { name: 'Generate' }).click();
    await until(/^\d+ of 64 tokens/);
    await page.getByRole('button', { name: 'Cancel' }).click();
    await until(/^Cancelled/);
    await page.getByRole('radio', { name: 'one' }).check();
    await page.getByRole('radio', { name: 'bag' }).check();
    await page.getByRole('button', { name: 'Generate' }).click();
    await until(/^Done in /);
    expect((await look('#picture')).deviation).toBeGreaterThan(30);
  }, 300_000);

  test("restores a picture of one's own token by token, and varies it", async () => {
    const picture = await sharp({
      create: { width: 60, height: 90, channels: 3, background: { r: 230, g: 230, b: 230 } },
    })
      .png()
      .toBuffer();
    await page.getByLabel(/Drop a picture here/).setInputFiles({
      ...{ name: 'coat.png', mimeType: 'image/png', buffer: picture },
    });
    await expect
      .poll(() => page.locator('#figures').textContent(), { timeout: 120_000 })
      .toMatch(/32 x 32 pixels, PSNR \d+\.\d dB/);
    await until(/^Done in /);
    const decibels = async () =>
      Number(/([\d.]+) dB/.exec((await page.locator('#figures').textContent()) ?? '')?.[1]);
    const fine = await decibels();
    await page.getByLabel(/Tokens/).focus();
    await page.keyboard.press('Home');
    expect(fine).toBeGreaterThan((await decibels()) + 3);
    const own = await look('#original');
    await page.getByLabel(/Vary: keep/).fill('16');
    await page.getByRole('button', { name: 'Vary' }).click();
    await until(/^\d+ of 64 tokens/);
    await until(/^Done in /, 240_000);
    expect(Math.abs(own.mean - (await look('#picture')).mean)).toBeLessThan(60);
    await screenshot('varied');
  }, 300_000);

  test('a file that is no picture, a phone, and no network', async () => {
    await page.getByLabel(/Drop a picture here/).setInputFiles({
      ...{ name: 'text.png', mimeType: 'image/png', buffer: Buffer.from('no picture') },
    });
    await until(/text\.png is no picture/);
    await page.setViewportSize({ width: 390, height: 800 });
    await screenshot('phone');
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    expect(overflow).toBeLessThanOrEqual(0);
    await page.evaluate(() => navigator.serviceWorker.ready);
    await page.reload(); // now through the service worker, which keeps what it sees
    await until(/^Ready, on /);
    await page.context().setOffline(true);
    await page.reload();
    await until(/^Ready, on /);
    await page.context().setOffline(false);
    expect(problems).toEqual([]);
  }, 300_000);

  test('says so where there is no WebGPU', async () => {
    const without = await browser.newPage();
    await without.addInitScript(() =>
      Object.defineProperty(Navigator.prototype, 'gpu', { value: undefined }),
    );
    await without.addInitScript(() => delete (Navigator.prototype as { gpu?: unknown }).gpu);
    await without.goto(server.resolvedUrls?.local[0] as string);
    await expect.poll(() => without.locator('#status').textContent()).toMatch(/has no WebGPU/);
    await without.close();
  });

  test('its JavaScript stays small', async () => {
    const folder = path.join(root, 'dist', 'assets');
    const scripts = (await readdir(folder)).filter((name) => name.endsWith('.js'));
    let total = 0;
    for (const name of scripts)
      total += gzipSync(await readFile(path.join(folder, name)), { level: 9 }).length;
    console.log(`${total} bytes of JavaScript after gzip`);
    expect(total).toBeLessThan(SIZE_LIMIT);
  });
});
