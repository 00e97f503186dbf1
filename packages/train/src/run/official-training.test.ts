import { readFileSync } from 'node:fs';
import type { Weight } from '@detailflow/core';
import { patchDiscriminatorParameters } from '@detailflow/features';
import { expect, test } from 'vitest';
import { officialDiscriminator } from '../losses/official-discriminator';
import { inOfficialOrder } from './official-order';
import { fitsCheckpoint } from './official-training';

const keys: Record<string, Record<string, unknown>> = JSON.parse(
  readFileSync(new URL('../../../../tests/fixtures/golden/official_keys.json', import.meta.url), 'utf8'),
);

test.each(Object.keys(keys))(
  'parameters of %s come in the order in which the official model makes them',
  (name) => {
    const official = Object.keys(keys[name]).filter(
      (key) => key !== 'quantize.codebook_used' && !key.startsWith('repa_model.'),
    );
    expect(official.length).toBeGreaterThan(100);
    const mixed = [...official].sort((a, b) =>
      a.split('').reverse().join() < b.split('').reverse().join() ? -1 : 1,
    );
    expect(mixed).not.toEqual(official);
    expect(inOfficialOrder(mixed)).toEqual(official);
    expect(inOfficialOrder([...mixed, 'unknown.weight']).at(-1)).toBe('unknown.weight');
  },
);

test('a PatchGAN with norms over batches has the official names, any other its own', () => {
  const names = (norm: 'batch' | 'image') =>
    patchDiscriminatorParameters({ width: 4, layers: 3, norm }).map(({ name }) => name);
  const { name, norms } = officialDiscriminator(names('batch'));
  // As taming-transformers numbers convolutions, norms and activations.
  expect(names('batch').map(name)).toEqual([
    ...['main.0.weight', 'main.0.bias', 'main.2.weight', 'main.3.weight', 'main.3.bias'],
    ...['main.5.weight', 'main.6.weight', 'main.6.bias', 'main.8.weight', 'main.9.weight', 'main.9.bias'],
    ...['main.11.weight', 'main.11.bias'],
  ]);
  expect([...norms.keys()]).toEqual(['main.3', 'main.6', 'main.9']);
  const other = officialDiscriminator(names('image'));
  expect(names('image').map(other.name)).toEqual(names('image'));
  expect(other.norms.size).toBe(0);
});

test('files of 4 GiB and more are known before they are written', () => {
  const weight = (count: number): Weight => ({
    ...{ name: 'w', dtype: 'f32', shape: [count] },
    read: () => Promise.reject(new Error('never read')),
  });
  const half = new Map([['w', weight(2 ** 29 - 1000)]]);
  expect(fitsCheckpoint(half)).toBe(true);
  expect(fitsCheckpoint(half, { optimizer: { state: [{ exp_avg: weight(10) }], rate: 1 } })).toBe(true);
  expect(fitsCheckpoint(half, { optimizer: { state: [{ exp_avg: weight(2 ** 29 + 2000) }] } })).toBe(false);
});
