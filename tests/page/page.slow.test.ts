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
import { findings } from './accessibility';
import { openBrowser } from './browser';
import { contrastOf } from './contrast';

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
    await page.addInitScript(() => {
      const seen: number[] = [];
      Object.assign(globalThis, { seenShares: seen });
      new MutationObserver(() => {
        const bar = document.querySelector<HTMLProgressElement>('progress#loaded:not([hidden])');
        if (bar?.hasAttribute('value')) seen.push(bar.value);
      }).observe(document, { subtree: true, attributes: true, attributeFilter: ['value'] });
    });
    await page.goto(server.resolvedUrls?.local[0] as string);
  }, 120_000);
  afterAll(async () => {
    await browser?.close();
    await server?.close();
  });

  const until = (pattern: RegExp, timeout = 400_000) =>
    page.waitForFunction(
      ([source]) => new RegExp(source).test(document.querySelector('#status')?.textContent ?? ''),
      [pattern.source],
      { timeout },
    );
  const screenshot = (name: string) =>
    page.screenshot({ path: path.join(out, `${name}.png`), fullPage: true });
  /** Mean of the red of what a canvas shows, and the deviation of the colour that varies most. */
  const look = async (selector: string) => {
    const url = await page.locator(selector).evaluate((canvas) => (canvas as HTMLCanvasElement).toDataURL());
    const { channels } = await sharp(Buffer.from(url.split(',')[1], 'base64'))
      .removeAlpha()
      .stats();
    return { mean: channels[0].mean, deviation: Math.max(...channels.map(({ stdev }) => stdev)) };
  };

  test('loads the model, knows its classes and says what they are, and draws a first picture', async () => {
    await until(/^Done in /);
    expect(await page.getByRole('radio', { name: 'cat face' }).count()).toBe(1);
    expect(await page.locator('#knows').textContent()).toBe(
      'This model knows emoji on white, and makes that of every picture.',
    );
    expect(await page.locator('#picture').getAttribute('aria-label')).toBe(
      'A picture of happy-face 7, 64 of 64 tokens',
    );
    expect((await look('#picture')).deviation).toBeGreaterThan(30);
    await screenshot('first');
    expect(await findings(page)).toEqual([]);
  }, 900_000);

  test('shows how much of the model has come, and nothing of it later', async () => {
    const shares = await page.evaluate(() => (globalThis as { seenShares?: number[] }).seenShares ?? []);
    expect(shares).toEqual([...shares].sort((a, b) => a - b));
    expect(shares.filter((share) => share > 0 && share < 1).length).toBeGreaterThan(3);
    expect([shares[0], shares.at(-1)]).toEqual([0, 1]);
    const bar = page.locator('#loaded');
    expect([await bar.isVisible(), await bar.getAttribute('aria-label')]).toEqual([
      false,
      'How much of the model is loaded',
    ]);
  });

  test.each(['light', 'dark'] as const)('edges of controls stand out from a %s page', async (colorScheme) => {
    await page.emulateMedia({ colorScheme });
    for (const selector of ['#classes', '#seed', '#generate', '#cancel', '#save', '#drop', '#samples']) {
      expect(await contrastOf(page, selector), selector).toBeGreaterThanOrEqual(3);
    }
    expect(await findings(page)).toEqual([]);
    await page.emulateMedia({ colorScheme: 'light' });
  });

  test('saves what is shown as a PNG file', async () => {
    const saving = page.waitForEvent('download');
    await page.getByRole('button', { name: 'Save' }).click();
    const download = await saving;
    expect(download.suggestedFilename()).toBe('happy-face-7-64-tokens.png');
    const saved = sharp(await download.path());
    expect(await saved.metadata()).toMatchObject({ format: 'png', width: 512, height: 512 });
    const shown = await look('#picture');
    expect((await saved.removeAlpha().stats()).channels[0].mean).toBeCloseTo(shown.mean, 1);
  });

  test('generates nine pictures of a class, with previews on the way; the slider goes back to coarse', async () => {
    await page.getByRole('radio', { name: 'happy face' }).check();
    await page.getByRole('radio', { name: 'nine' }).check();
    await page.getByRole('button', { name: 'Generate' }).click();
    await until(/^[1-9]\d* of 64 tokens after/);
    expect(await page.getByRole('button', { name: 'Cancel' }).isEnabled()).toBe(true);
    await until(/^Done in /);
    const fine = await look('#picture');
    expect(fine.deviation).toBeGreaterThan(30);
    await screenshot('nine-faces');
    // The README's docs/images/page.png: without the time that a software adapter took.
    const status = page.locator('#status');
    await status.evaluate((line) => line.style.setProperty('visibility', 'hidden'));
    await screenshot('readme');
    await status.evaluate((line) => line.style.removeProperty('visibility'));
    const slider = page.getByLabel(/Tokens/);
    await slider.focus();
    await page.keyboard.press('Home');
    expect(await page.locator('#tokens-value').textContent()).toBe('1 of 64');
    const coarse = await look('#picture');
    expect(coarse.deviation).toBeLessThan(fine.deviation);
    await page.keyboard.press('End');
    expect(await look('#picture')).toEqual(fine);
  }, 900_000);

  test('cancels, and generates again', async () => {
    await page.getByRole('button', { name: 'Generate' }).click();
    await until(/^\d+ of 64 tokens/);
    await page.getByRole('button', { name: 'Cancel' }).click();
    await until(/^Cancelled/);
    await page.getByRole('radio', { name: 'one' }).check();
    await page.getByRole('radio', { name: 'heart' }).check();
    await page.getByRole('button', { name: 'Generate' }).click();
    await until(/^Done in /);
    expect((await look('#picture')).deviation).toBeGreaterThan(30);
  }, 900_000);

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
      .toMatch(/64 x 64 pixels, PSNR \d+\.\d dB/);
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
    await until(/^Done in /);
    expect(Math.abs(own.mean - (await look('#picture')).mean)).toBeLessThan(60);
    await screenshot('varied');
  }, 900_000);

  test('a sample of what the model knows is restored well', async () => {
    await page.getByRole('button', { name: 'heart', exact: true }).click();
    await until(/^\d+ of 64 tokens/);
    await until(/^Done in /);
    const figures = (await page.locator('#figures').textContent()) ?? '';
    expect(Number(/([\d.]+) dB/.exec(figures)?.[1])).toBeGreaterThan(15);
    await screenshot('sample');
    expect(await findings(page)).toEqual([]);
  }, 900_000);

  test('of two files chosen quickly the last one is taken, though the first takes longer to read', async () => {
    await page.evaluate(() => {
      const read = window.createImageBitmap.bind(window) as (source: Blob) => Promise<ImageBitmap>;
      window.createImageBitmap = (async (source: File) => {
        if (source.name === 'large.png') await new Promise((resolve) => setTimeout(resolve, 1500));
        return read(source);
      }) as typeof window.createImageBitmap;
    });
    const square = async (name: string, grey: number) => {
      const background = { r: grey, g: grey, b: grey };
      const image = sharp({ create: { width: 64, height: 64, channels: 3, background } });
      return { name, mimeType: 'image/png', buffer: await image.png().toBuffer() };
    };
    const [slow, quick] = [await square('large.png', 250), await square('small.png', 120)];
    const chooser = page.getByLabel(/Drop a picture here/);
    await chooser.setInputFiles(slow);
    await chooser.setInputFiles(quick);
    await page.waitForTimeout(2500);
    expect((await look('#original')).mean).toBeCloseTo(120, 0);
    expect(await page.locator('#original').getAttribute('aria-label')).toMatch(/small\.png/);
    await until(/^Done in /);
  }, 900_000);

  test('a file that is no picture, a phone, and no network', async () => {
    await page.getByLabel(/Drop a picture here/).setInputFiles({
      ...{ name: 'text.png', mimeType: 'image/png', buffer: Buffer.from('no picture') },
    });
    await until(/text\.png is no picture/);
    await page.setViewportSize({ width: 390, height: 800 });
    await page.getByRole('button', { name: 'Vary' }).scrollIntoViewIfNeeded();
    const isInView = () =>
      page.locator('#picture').evaluate((canvas) => {
        const { top, bottom } = canvas.getBoundingClientRect();
        return top >= 0 && bottom <= window.innerHeight;
      });
    expect(await isInView()).toBe(false);
    await page.getByRole('button', { name: 'heart', exact: true }).click();
    await expect.poll(isInView, { timeout: 10_000 }).toBe(true); // while it is being drawn
    expect(await page.getByRole('button', { name: 'Cancel' }).isEnabled()).toBe(true);
    await until(/^Done in /);
    await page.screenshot({ path: path.join(out, 'phone-in-view.png') });
    await screenshot('phone');
    expect(await findings(page)).toEqual([]);
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    expect(overflow).toBeLessThanOrEqual(0);
    await page.evaluate(() => navigator.serviceWorker.ready);
    await page.reload(); // now through the service worker, which keeps what it sees
    await until(/^Done in /);
    await page.context().setOffline(true);
    await page.reload();
    await until(/^Done in /);
    await page.context().setOffline(false);
    expect(problems).toEqual([]);
  }, 900_000);

  test('draws on the processor where there is no WebGPU, and says so; a job can be cancelled', async () => {
    const plain = await openBrowser({ webgpu: false });
    const without = await plain.newPage({ viewport: { width: 1100, height: 760 } });
    try {
      await without.goto(server.resolvedUrls?.local[0] as string);
      const status = without.locator('#status');
      await expect.poll(() => status.textContent(), { timeout: 400_000 }).toMatch(/^Done in /);
      expect(await without.locator('#note').textContent()).toMatch(/no WebGPU, so the processor draws/);
      // The same seed gives the same picture on every device, up to rounding.
      const [here, there] = [await pixelsOf(without), await pixelsOf(await firstPage())];
      const differences = here.map((byte, i) => Math.abs(byte - there[i]));
      expect(differences.reduce((a, b) => a + b) / differences.length).toBeLessThan(2);
      await without.getByRole('button', { name: 'Generate' }).click();
      await expect.poll(() => status.textContent(), { timeout: 200_000 }).toMatch(/^\d+ of 64 tokens/);
      await without.getByRole('button', { name: 'Cancel' }).click();
      await expect.poll(() => status.textContent(), { timeout: 200_000 }).toBe('Cancelled.');
      await without.screenshot({ path: path.join(out, 'processor.png'), fullPage: true });
      expect(await findings(without)).toEqual([]);
    } finally {
      await plain.close();
    }
  }, 900_000);

  /** A page that has just drawn its first picture. */
  async function firstPage(): Promise<Page> {
    await page.goto(server.resolvedUrls?.local[0] as string);
    await until(/^Done in /);
    return page;
  }

  async function pixelsOf(shown: Page): Promise<number[]> {
    const url = await shown
      .locator('#picture')
      .evaluate((canvas) => (canvas as HTMLCanvasElement).toDataURL());
    return [
      ...(await sharp(Buffer.from(url.split(',')[1], 'base64'))
        .removeAlpha()
        .raw()
        .toBuffer()),
    ];
  }

  test('says what it is where scripts are switched off', async () => {
    const context = await browser.newContext({ javaScriptEnabled: false });
    const still = await context.newPage();
    await still.goto(server.resolvedUrls?.local[0] as string);
    expect(await still.locator('noscript').innerText()).toMatch(/draws its pictures with JavaScript/);
    expect(await still.locator('#status').innerText()).toBe('');
    await still.screenshot({ path: path.join(out, 'no-script.png'), fullPage: true });
    await context.close();
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
