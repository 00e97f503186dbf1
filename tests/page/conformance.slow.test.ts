import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { build, preview } from 'vite';
import { expect, test } from 'vitest';
import { browserPath } from '../../tools/webgpu/driver.mjs';
import { openBrowser } from './browser';

test.skipIf(!browserPath)('the conformance suite and golden values A and B, in Chromium', async () => {
  const root = fileURLToPath(new URL('./suite/', import.meta.url));
  const outDir = await mkdtemp(path.join(tmpdir(), 'suite-'));
  await build({ root, logLevel: 'error', build: { outDir } });
  const server = await preview({
    ...{ root, logLevel: 'error', build: { outDir } },
    preview: { port: 0, host: '127.0.0.1' },
  });
  const browser = await openBrowser();
  try {
    const page = await browser.newPage();
    await page.goto(server.resolvedUrls?.local[0] as string);
    await page.waitForFunction(() => 'runSuite' in window);
    const { passed, failures } = await page.evaluate(() => window.runSuite());
    expect(failures).toEqual([]);
    expect(passed).toBeGreaterThan(340);
  } finally {
    await browser.close();
    await server.close();
    await rm(outDir, { recursive: true });
  }
});
