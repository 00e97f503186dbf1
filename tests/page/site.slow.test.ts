import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { DetailFlowError, type ErrorCode } from '@detailflow/core';
import type { Browser, BrowserContextOptions, Page } from 'playwright-core';
import sharp from 'sharp';
import { type PreviewServer, preview } from 'vite';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { browserPath } from '../../tools/webgpu/driver.mjs';
import { inRepository } from '../cli';
import { findings } from './accessibility';
import { openBrowser } from './browser';

// The site as it is served: looks, accessibility, weight, search, live parts. It is built first; DETAILFLOW_SITE=built takes
// the one that lies in docs/build/site.

const out = inRepository('out/site/');
/** The most JavaScript that a guide may need until it is read, in bytes after gzip. */
const BUDGET = 150_000;

describe.skipIf(!browserPath)('the site', () => {
  let server: PreviewServer;
  let browser: Browser;
  let address = '';

  beforeAll(async () => {
    await mkdir(out, { recursive: true });
    if (process.env.DETAILFLOW_SITE !== 'built') {
      execFileSync(process.execPath, [inRepository('docs/tools/site.mjs'), 'build'], {
        env: { ...process.env, NODE_ENV: undefined },
        stdio: 'pipe',
      });
    }
    server = await preview({
      ...{ root: inRepository('docs'), build: { outDir: 'build/site' }, configFile: false, appType: 'mpa' },
      ...{ preview: { port: 0, host: '127.0.0.1' }, logLevel: 'error' },
    });
    address = server.resolvedUrls?.local[0] as string;
    browser = await openBrowser();
  }, 1_800_000);
  afterAll(async () => {
    await browser?.close();
    await server?.close();
  });

  /** Opens a page; what it asks of other hosts, and what it complains about, is collected. */
  async function open(where: string, options: BrowserContextOptions = {}) {
    const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, ...options });
    const page = await context.newPage();
    const problems: string[] = [];
    const scripts: string[] = [];
    page.on('pageerror', (error) => problems.push(error.message));
    page.on('console', (message) => message.type() === 'error' && problems.push(message.text()));
    page.on('request', (request) => {
      const { protocol, host, pathname } = new URL(request.url());
      if (protocol.startsWith('http') && host !== new URL(address).host) problems.push(`asks ${host}`);
      if (/\.m?js$/.test(pathname)) scripts.push(pathname);
    });
    await page.goto(`${address}${where}`, { waitUntil: 'networkidle' });
    return { page, problems, scripts, close: () => context.close() };
  }

  const shot = (page: Page, name: string) => page.screenshot({ path: path.join(out, `${name}.png`) });

  const shown = [
    ['index.html', 'home'],
    ['guide/start.html', 'start'],
    ['guide/how-it-works.html', 'how-it-works'],
    ['guide/choose-a-model.html', 'choose-a-model'],
    ['guide/troubleshooting.html', 'troubleshooting'],
    ['guide/tokens.html', 'tokens'],
    ['guide/playground.html', 'playground'],
    ['reference/index.html', 'reference'],
    ['reference/@detailflow/sampler.html', 'reference-sampler'],
    ['guide/train.html', 'train'],
    ['guide/browser.html', 'browser'],
  ] as const;
  const kinds = {
    desktop: {},
    phone: { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true, deviceScaleFactor: 2 },
    dark: { colorScheme: 'dark' },
  } as const satisfies Record<string, BrowserContextOptions>;

  describe.each(Object.entries(kinds))('%s', (kind, options) => {
    test.each(shown)('%s has no fault of accessibility, asks nobody else, and fits', async (where, name) => {
      const { page, problems, close } = await open(where, options);
      await shot(page, `${name}-${kind}`);
      expect(await page.locator('h1').first().textContent()).toMatch(/\w/);
      expect(await findings(page)).toEqual([]);
      const [wanted, given] = await page.evaluate(() => [
        document.documentElement.scrollWidth,
        document.documentElement.clientWidth,
      ]);
      expect(wanted).toBeLessThanOrEqual(given);
      expect(problems).toEqual([]);
      await close();
    });
  });

  test('a guide needs little JavaScript', async () => {
    for (const where of ['guide/start.html', 'guide/train.html']) {
      const { scripts, close } = await open(where);
      const bytes = await Promise.all(
        [...new Set(scripts)].map(async (script) =>
          gzipSync(await readFile(inRepository(`docs/build/site${script}`))),
        ),
      );
      const weight = bytes.reduce((sum, { length }) => sum + length, 0);
      console.log(`${where}: ${Math.round(weight / 1000)} kB of JavaScript after gzip`);
      expect(weight).toBeGreaterThan(10_000);
      expect(weight).toBeLessThanOrEqual(BUDGET);
      await close();
    }
  });

  test('errors lead to their paragraphs', async () => {
    const { homepage } = JSON.parse(await readFile(inRepository('package.json'), 'utf8'));
    const source = await readFile(inRepository('docs/guide/troubleshooting.md'), 'utf8');
    const codes = [...source.matchAll(/^## ([a-z-]+)$/gm)].map(([, code]) => code);
    expect(codes).toContain('device-lost');
    for (const code of codes) {
      const { help } = new DetailFlowError(code as ErrorCode, 'x');
      expect(help.startsWith(homepage), help).toBe(true);
      const [file, anchor] = help.slice(homepage.length).split('#');
      const page = await readFile(inRepository(`docs/build/site/${file}`), 'utf8');
      expect(page, help).toContain(`<h2 id="${anchor}"`);
    }
  });

  test('the search finds guides and names, without asking anybody', async () => {
    const { page, problems, close } = await open('guide/start.html');
    for (const [words, found] of [
      ['rate-limited', 'troubleshooting'],
      ['createNodeBackend', 'reference'],
    ]) {
      await page.keyboard.press('Control+k');
      await page.locator('.VPLocalSearchBox input').fill(words);
      const results = page.locator('.VPLocalSearchBox .result');
      await results.first().waitFor({ timeout: 60_000 });
      const links = await results.evaluateAll((all) => all.map((one) => one.getAttribute('href') ?? ''));
      expect(
        links.some((link) => link.includes(found)),
        `${words}: ${links}`,
      ).toBe(true);
      await page.keyboard.press('Escape');
    }
    expect(problems).toEqual([]);
    await close();
  });

  test('the slider shows another picture and size at each place', async () => {
    const { page, close } = await open('guide/tokens.html');
    const slider = page.locator('.tokens-slider input[type=range]');
    const seen = new Set<string>();
    for (const place of ['0', '7', '14']) {
      await slider.fill(place);
      seen.add(
        await page
          .locator('.tokens-slider canvas')
          .evaluate((canvas) => (canvas as HTMLCanvasElement).toDataURL()),
      );
    }
    expect(seen.size).toBe(3);
    expect(await page.locator('.tokens-slider [role=status]').textContent()).toContain(
      '64 tokens are worth 64 pixels',
    );
    await shot(page, 'tokens-moved');
    await close();
  });

  test('the playground runs a program against the model in the box, and says what is wrong with one', async () => {
    const { page, problems, close } = await open('guide/playground.html');
    const program = page.locator('.playground textarea');
    const output = page.locator('.playground .output');
    await program.fill(`import { generate as draw } from '@detailflow/sampler';
import { model, tokenizer, show } from 'playground';
for await (const step of draw({ model, tokenizer, labels: [9], seed: 7, cfg: 2, tokens: 8 })) {
  if (step.count === step.total) show(await step.pixels());
  console.log('count', step.count, step.resolution);
}`);
    await page.locator('.playground .run').click();
    await page.waitForFunction(
      () => /Done\.|Failed/.test(document.querySelector('.output')?.textContent ?? ''),
      null,
      {
        timeout: 600_000,
      },
    );
    expect(await output.textContent()).toMatch(/count 8 \d+\nDone\.\n$/);
    const url = await page
      .locator('.playground canvas')
      .first()
      .evaluate((canvas) => (canvas as HTMLCanvasElement).toDataURL());
    const { channels } = await sharp(Buffer.from(url.split(',')[1], 'base64'))
      .removeAlpha()
      .stats();
    expect(Math.max(...channels.map(({ stdev }) => stdev))).toBeGreaterThan(20);
    await shot(page, 'playground-done');
    await program.fill(`import { load } from 'detailflow';`);
    await page.locator('.playground .run').click();
    await page.waitForFunction(
      () => /Failed/.test(document.querySelector('.output')?.textContent ?? ''),
      null,
      {
        timeout: 600_000,
      },
    );
    expect(await output.textContent()).toContain('"detailflow" is not here; there are: @detailflow/core');
    expect(problems).toEqual([]);
    await close();
  });

  test('the drawing page is there, and draws', async () => {
    const { page, close } = await open('guide/draw.html');
    const status = page.frameLocator('iframe.drawing-page').locator('#status');
    await expect
      .poll(() => status.textContent(), { timeout: 600_000, interval: 2000 })
      .toMatch(/^Done in |\d+ of 64 tokens/);
    await shot(page, 'draw');
    await close();
  });

  test('links to the repository lead to files that are there, and those of the site to its pages and headings', async () => {
    const site = inRepository('docs/build/site/');
    const pages = (await readdir(site, { recursive: true })).filter(
      (file) => file.endsWith('.html') && !file.startsWith('draw/') && file !== '404.html',
    );
    const texts = new Map<string, string>();
    for (const page of pages) texts.set(page, await readFile(path.join(site, page), 'utf8'));
    const { repository } = JSON.parse(await readFile(inRepository('package.json'), 'utf8'));
    const sources = `${repository.url.replace(/^git\+|\.git$/g, '')}/`;
    const dead = new Set<string>();
    let [inside, outside] = [0, 0];
    for (const [page, text] of texts) {
      for (const [, link] of text.matchAll(/<a [^>]*?href="([^"]+)"/g)) {
        if (link.startsWith(sources)) {
          outside++;
          const file = /^(?:blob|tree)\/main\/([^#]+)/.exec(link.slice(sources.length))?.[1];
          if (file && !existsSync(inRepository(file))) dead.add(`${page}: ${link}`);
        } else if (!/^[a-z]+:/.test(link)) {
          inside++;
          const { pathname, hash } = new URL(link, `http://x/${page}`);
          const target = pathname === '/' ? 'index.html' : decodeURIComponent(pathname.slice(1));
          const there = texts.get(target.endsWith('/') ? `${target}index.html` : target);
          const id = decodeURIComponent(hash.slice(1));
          if (there === undefined || !(id === '' || there.includes(`id="${id}"`)))
            dead.add(`${page}: ${link}`);
        }
      }
    }
    expect([...dead]).toEqual([]);
    expect(Math.min(inside, outside)).toBeGreaterThan(1000);
  });

  test('there is a page for every guide, package and module, and a text for language models', async () => {
    const all = await readdir(inRepository('docs/build/site'), { recursive: true });
    for (const name of await readdir(inRepository('docs/guide'))) {
      expect(
        all.some((file) => file.endsWith(`/${name.replace(/\.md$/, '.html')}`)),
        name,
      ).toBe(true);
    }
    for (const name of await readdir(inRepository('packages')))
      expect(all).toContain(`packages/${name}.html`);
    expect(
      all.filter((file) => file.startsWith('reference/') && file.endsWith('.html')).length,
    ).toBeGreaterThan(20);
    expect(await readFile(inRepository('docs/build/site/llms.txt'), 'utf8')).toContain('Troubleshooting');
  });
});
