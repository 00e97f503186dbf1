import { spawn } from 'node:child_process';
import { expect, test } from 'vitest';
import { inRepository } from './cli';

// Longer, and with other seeds: npm run fuzz -- --seconds 600 --seed 7

const inputs = 60;

test('no input of the fuzzer does more than it may', async () => {
  const program = inRepository('tools/fuzz/fuzz.mjs');
  const child = spawn(process.execPath, [program, '--inputs', String(inputs), '--seed', '1']);
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => (output += data));
  const code = await new Promise((resolve) => child.once('close', resolve));
  expect(code, output).toBe(0);
  const counts = [...output.matchAll(/^(\w+) +(\d+) inputs/gm)].map(([, name, count]) => [
    name,
    Number(count),
  ]);
  expect(counts.map(([name]) => name)).toEqual([
    'safetensors',
    'torch',
    'official',
    'bundle',
    'npy',
    'image',
    'parquet',
  ]);
  for (const [name, count] of counts) expect(count, `inputs of ${name}`).toBe(inputs);
});
