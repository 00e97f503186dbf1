import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { createNodeBackend } from '@detailflow/backend-node';
import { readTorchCheckpoint, stateDict } from '@detailflow/checkpoint';
import { openFile } from '@detailflow/checkpoint/node';
import { type Backend, readSafetensors, Tensor, type Weight, type Weights } from '@detailflow/core';
import { createTokenizer } from '@detailflow/tokenizer';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { golden } from './golden';
import { goldenTokenizer } from './models';

const open = (file: string) => openFile(fileURLToPath(new URL(`./fixtures/golden/${file}`, import.meta.url)));

/** The same weights, and the names of those that were read instead of mapped. */
function watched(weights: Weights): { weights: Weights; read: string[] } {
  const read: string[] = [];
  const watch = (weight: Weight): Weight => ({
    ...weight,
    read: () => {
      read.push(weight.name);
      return weight.read();
    },
  });
  return { weights: new Map([...weights].map(([name, weight]) => [name, watch(weight)])), read };
}

const sources: Record<
  '.pt' | '.safetensors',
  (set: 'A' | 'B') => Promise<{ weights: Weights; close(): Promise<void> }>
> = {
  '.pt': async (set) => {
    const source = await open(`${set}/tokenizer/checkpoints/${set === 'A' ? '0000320' : '0000064'}.pt`);
    return { weights: stateDict(await readTorchCheckpoint(source), 'model'), close: () => source.close() };
  },
  '.safetensors': async (set) => {
    const source = await open(`${set}/tokenizer/model.safetensors`);
    return { weights: await readSafetensors(source), close: () => source.close() };
  },
};

let backend: Backend;
beforeAll(async () => {
  backend = await createNodeBackend({ threads: 1 });
});
afterAll(() => backend.close());

/** Pixels of the golden codes. */
async function decode(set: 'A' | 'B', weights: Weights): Promise<Float32Array> {
  const { data, shape } = golden(`${set}/golden_tokenizer.safetensors`)['enc.indices'];
  const tokenizer = createTokenizer({ config: goldenTokenizer(set).config, weights, backend });
  const pixels = await tokenizer.decode(new Tensor('int32', data as Int32Array, shape));
  await tokenizer.dispose();
  return pixels.data as Float32Array;
}

describe.each(['.pt', '.safetensors'] as const)('weights of a %s file', (kind) => {
  test('are mapped from where they lie and compute the same as in memory', async () => {
    const expected = await decode('B', goldenTokenizer('B').weights);
    const { weights, close } = await sources[kind]('B');
    const { weights: spied, read } = watched(weights);
    expect(await decode('B', spied)).toEqual(expected);
    expect(read).toEqual([]);
    await close();
  });

  test('compute the same when some of them are in memory', async () => {
    const memory = goldenTokenizer('B').weights;
    const { weights, close } = await sources[kind]('B');
    const mixed = [...weights].map(
      ([name, weight], i) => [name, i % 3 === 0 ? memory.get(name)! : weight] as const,
    );
    expect(await decode('B', new Map(mixed))).toEqual(await decode('B', memory));
    await close();
  });
});

test.skipIf(process.platform === 'win32')('weights behind a link are mapped, too', async () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'detailflow-link-'));
  const link = path.join(folder, 'model.safetensors');
  const file = fileURLToPath(new URL('./fixtures/golden/B/tokenizer/model.safetensors', import.meta.url));
  symlinkSync(file, link);
  const source = await openFile(link);
  try {
    const { weights, read } = watched(await readSafetensors(source));
    expect(await decode('B', weights)).toEqual(await decode('B', goldenTokenizer('B').weights));
    expect(read).toEqual([]);
  } finally {
    await source.close();
    rmSync(folder, { recursive: true });
  }
});

test('weights of two folders compute the same as in memory', async () => {
  const [pt, safetensors] = [await sources['.pt']('B'), await sources['.safetensors']('B')];
  const mixed = [...safetensors.weights].map(
    ([name, weight], i) => [name, i % 4 === 0 ? pt.weights.get(name)! : weight] as const,
  );
  expect(await decode('B', new Map(mixed))).toEqual(await decode('B', goldenTokenizer('B').weights));
  await pt.close();
  await safetensors.close();
});

test('bfloat16 weights of a file are widened', async () => {
  const { weights, close } = await sources['.safetensors']('A');
  expect(new Set([...weights.values()].map((weight) => weight.dtype))).toContain('bf16');
  expect(await decode('A', weights)).toEqual(await decode('A', goldenTokenizer('A').weights));
  await close();
});
