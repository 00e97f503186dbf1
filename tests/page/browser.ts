import { type Browser, chromium } from 'playwright-core';
import { browserPath } from '../../tools/webgpu/driver.mjs';

/** Debian's Chromium without a screen, with WebGPU on the CPU or without any. */
export function openBrowser({ webgpu = true } = {}): Promise<Browser> {
  return chromium.launch({
    executablePath: browserPath,
    headless: true,
    args: [
      ...(webgpu ? ['--enable-unsafe-webgpu'] : ['--disable-features=WebGPU']),
      ...['--headless=new', '--no-sandbox', '--disable-quic', '--no-first-run'],
      ...['--disable-background-networking', '--disable-component-update', '--disable-sync'],
    ],
  });
}

if (!browserPath) console.warn('PAGES ARE NOT TESTED: there is no Chromium; run npm run setup:webgpu');
