import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Browser } from 'playwright-core';
import { preview } from 'vite';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { browserPath } from '../../tools/webgpu/driver.mjs';
import { inRepository } from '../cli';
import { type PackedPackages, packPackages, run } from '../packed-packages';
import { openBrowser } from './browser';

// docs/guide/browser.md as it stands, in a project that installs packed packages and bundlers of today from the registry.

const guide = readFileSync(inRepository('docs/guide/browser.md'), 'utf8');
const { devDependencies } = JSON.parse(readFileSync(inRepository('package.json'), 'utf8'));
const bundlers = ['Vite', 'webpack', 'esbuild'] as const;
const versions: Readonly<Record<string, string>> = {
  vite: devDependencies.vite,
  ...{ webpack: '5.112.2', 'webpack-cli': '6.0.1', 'esbuild-loader': '4.5.0', esbuild: '0.28.2' },
};

/** The first block of code in a language, of the whole guide or of the part about a bundler. */
function block(language: string, part = guide): string {
  const code = new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\`$`, 'ms').exec(part)?.[1];
  if (!code) throw new Error(`the guide has no ${language}`);
  return code;
}
const partAbout = (bundler: string) =>
  guide.split(/^## /m).find((one) => one.startsWith(`${bundler}\n`)) ?? '';

/** An installation of the versions that are tried here. */
const pinned = (command: string) =>
  !command.startsWith('npm install')
    ? command
    : command.replace(/[\w-]+/g, (word) => (versions[word] ? `${word}@${versions[word]}` : word));

/** What a page draws, as the address of a PNG. */
async function drawn(browser: Browser, folder: string): Promise<string> {
  const server = await preview({
    ...{ root: folder, build: { outDir: 'dist' }, configFile: false, appType: 'mpa' },
    ...{ preview: { port: 0, host: '127.0.0.1' }, logLevel: 'error' },
  });
  const page = await browser.newPage();
  const problems: string[] = [];
  page.on('pageerror', (error) => {
    problems.push(error.message);
    void page.evaluate(`document.body.dataset.failed = 'yes'`);
  });
  page.on('console', (message) => message.type() === 'error' && problems.push(message.text()));
  try {
    await page.goto(server.resolvedUrls?.local[0] as string);
    await page.waitForFunction('document.body.dataset.drawn || document.body.dataset.failed', null, {
      timeout: 900_000,
    });
    expect(problems.filter((one) => !one.includes('404'))).toEqual([]);
    const canvas = page.locator('canvas');
    expect(await canvas.evaluate((one: HTMLCanvasElement) => one.width)).toBe(32);
    return await canvas.evaluate((one: HTMLCanvasElement) => one.toDataURL());
  } finally {
    await page.close();
    await server.close();
  }
}

describe.skipIf(!browserPath)('a page from packages of npm', () => {
  let packed: PackedPackages;
  let browser: Browser;
  const pictures = new Map<string, string>();
  beforeAll(async () => {
    packed = await packPackages();
    browser = await openBrowser();
  });
  afterAll(async () => {
    await browser?.close();
    packed?.remove();
  });

  test('the guide has a part about each', () => {
    expect(guide.match(/^## \w+$/gm)?.slice(0, 3)).toEqual(bundlers.map((name) => `## ${name}`));
  });

  test.each(bundlers)('%s builds it with the settings of the guide, and it draws', async (bundler) => {
    const install = block('sh').trim().split(' ').slice(2);
    expect(install.every((name) => name in packed.tarballs)).toBe(true);
    const place = await packed.project(bundler, ...install);
    mkdirSync(path.join(place, 'src'));
    writeFileSync(path.join(place, 'src', 'draw.ts'), `${block('ts')}document.body.dataset.drawn = 'yes';\n`);
    writeFileSync(path.join(place, 'index.html'), block('html'));
    const part = partAbout(bundler);
    for (const [, code, name] of part.matchAll(/^```js\n(\/\/ (\S+)\n.*?)^```$/gms))
      writeFileSync(path.join(place, name), code);
    for (const command of block('sh', part).trim().split('\n')) {
      const printed = await run(place, 'sh', '-c', pinned(command));
      expect(printed).not.toMatch(/warning/i);
    }
    // Nothing is taken from what the bundle was made of.
    rmSync(path.join(place, 'node_modules'), { recursive: true });
    pictures.set(bundler, await drawn(browser, place));
  });

  test('all of them draw the same', () => {
    expect(pictures.size).toBe(bundlers.length);
    expect(new Set(pictures.values()).size).toBe(1);
  });
});
