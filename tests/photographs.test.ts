import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { psnr, ssim } from '@detailflow/eval';
import { afterAll, describe, expect, test } from 'vitest';
import { inRepository } from './cli';

interface Figures {
  readonly height: number;
  readonly width: number;
  readonly ssim: number;
  readonly customary: number;
  readonly psnr: number;
}

const folder = mkdtempSync(path.join(tmpdir(), 'photographs-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** By scikit-image, where there is one. */
const reference = ['/usr/bin/python3', 'python3'].reduce<Record<string, Figures> | undefined>(
  (found, python) => {
    if (found) return found;
    const script = inRepository('tools/reference/photographs.py');
    const { status, stdout } = spawnSync(python, ['-B', script, folder], { encoding: 'utf8' });
    return status === 0 ? JSON.parse(stdout) : undefined;
  },
  undefined,
);
if (!reference) {
  console.warn(
    'SSIM AND PSNR OF PHOTOGRAPHS ARE NOT TESTED: there is no Python with scikit-image and its data',
  );
}

describe.skipIf(!reference)('photographs of scikit-image', () => {
  test.each(Object.entries(reference ?? {}))('%s', (name, { height, width, ...expected }) => {
    const [restored, original] = ['restored', 'original'].map((kind) => {
      const bytes = readFileSync(path.join(folder, `${name}.${kind}`));
      const plane = height * width;
      return Float32Array.from({ length: 3 * plane }, (_, at) => {
        return bytes[3 * (at % plane) + Math.floor(at / plane)] / 127.5 - 1;
      });
    });
    const size = { channels: 3, height, width };
    expect(Math.abs(ssim(restored, original, size) - expected.ssim)).toBeLessThan(1e-6);
    const customary = ssim(restored, original, { ...size, dataRange: 1 });
    expect(Math.abs(customary - expected.customary)).toBeLessThan(1e-6);
    expect(Math.abs(psnr(restored, original) - expected.psnr)).toBeLessThan(1e-4);
  });
});
