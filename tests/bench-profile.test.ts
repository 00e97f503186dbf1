import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, test } from 'vitest';
import { inRepository } from './cli';

interface Operator {
  readonly name: string;
  readonly calls: number;
  readonly ms: number;
  readonly flops: number;
  readonly bytes: number;
  readonly share: number;
  readonly shareOfFlops: number;
}

interface Profile {
  readonly dtype: string;
  readonly kinds: { kind: string; runs: number; ms: number; outsideMs: number; operators: Operator[] }[];
}

/** The operator of matrix products. */
const operators: Readonly<Record<string, string>> = {
  fp32: 'FusedMatMul',
  q8: 'MatMulIntegerToFloat',
  q4: 'MatMulNBits',
};

test('a profile says by step and operator where the time goes', () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'detailflow-bench-profile-'));
  try {
    const json = path.join(folder, 'profile.json');
    const args = [
      '--model',
      inRepository('tests/fixtures/fashion-ref'),
      '--dtype',
      'fp32,q8,q4',
      '--rounds',
      '2',
    ];
    const text = execFileSync(
      process.execPath,
      [inRepository('tools/run-bench.mjs'), 'profile', ...args, '--threads', '1', '--json', json],
      { encoding: 'utf8' },
    );
    const profiles = JSON.parse(readFileSync(json, 'utf8')) as Profile[];
    expect(profiles.map(({ dtype }) => dtype)).toEqual(['fp32', 'q8', 'q4']);
    for (const { dtype, kinds } of profiles) {
      // 32 tokens: four steps of one, then seven groups of four.
      expect(kinds.map(({ kind, runs }) => [kind, runs]).sort()).toEqual([
        ['decoder', 2],
        ['first step of 4', 2],
        ['step of 1', 8],
        ['step of 4', 12],
      ]);
      for (const { ms, outsideMs, operators: each } of kinds) {
        const inside = each.reduce((sum, one) => sum + one.ms, 0);
        expect(inside + outsideMs).toBeCloseTo(ms, 6);
        expect(outsideMs).toBeGreaterThanOrEqual(0);
        expect(each.reduce((sum, { share }) => sum + share, 0)).toBeLessThanOrEqual(1);
      }
      // Two rows of a token through 4 layers, 160 wide, 448 inside; logits over 1024 codes.
      const matrices = 4 * (160 * 480 + 160 * 160 + 3 * 160 * 448) + 160 * 1024;
      const products = kinds
        .find(({ kind }) => kind === 'step of 1')
        ?.operators.find(({ name }) => name === operators[dtype]);
      expect(products?.calls).toBeGreaterThanOrEqual(21);
      expect(products?.flops).toBeGreaterThanOrEqual(2 * 2 * matrices);
      // In q8, what goes into some matrices has 15 bits, in two rows.
      expect(products?.flops).toBeLessThan((dtype === 'q8' ? 3 : 2.2) * 2 * matrices);
      const stored = { fp32: 4 * matrices, q8: matrices, q4: (matrices + 160 * 1024) / 2 }[dtype] as number;
      expect(products?.bytes).toBeGreaterThan(stored);
      expect(products?.bytes).toBeLessThan(1.6 * stored);
      expect(products?.shareOfFlops).toBeGreaterThan(0);
    }
    expect(text).toMatch(/\| step of 4 \| all \|/);
    expect(text).toMatch(/\| between operators \|/);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
