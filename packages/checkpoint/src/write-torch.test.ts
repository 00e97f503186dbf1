import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileLimits, readFloat32, type Weight } from '@detailflow/core';
import { afterAll, expect, test } from 'vitest';
import { openFile, openFolder } from './node-files';
import { readOfficialFolder } from './official-folder';
import { stateDict } from './state-dict';
import { refusal } from './test-files';
import { readTorchCheckpoint } from './torch-checkpoint';
import { writeOfficialFolder } from './write-official';
import { writeTorchCheckpoint } from './write-torch';
import { readZip } from './zip';
import { openMember } from './zip-member';

const folder = mkdtempSync(join(tmpdir(), 'detailflow-torch-'));
afterAll(() => rmSync(folder, { recursive: true }));

const vector = (name: string, shape: readonly number[] = [2]): Weight => ({
  name,
  dtype: 'f32',
  shape,
  read: async () => new Uint8Array(Float32Array.of(1, 2).buffer),
});
const state = (...weights: Weight[]) => ({ model: new Map(weights.map((weight) => [weight.name, weight])) });

async function read(path: string): Promise<Record<string, number[]>> {
  const file = await openFile(path);
  try {
    for (const entry of (await readZip(file)).values()) await openMember(file, entry).verify();
    const weights = stateDict(await readTorchCheckpoint(file), 'model');
    const found: Record<string, number[]> = {};
    for (const [name, weight] of weights) found[name] = [...(await readFloat32(weight))];
    return found;
  } finally {
    await file.close();
  }
}

test.each(['0000001.pt', '.pt', '..pt', '...pt', 'ñ 日.pt', 'C:x.pt', 'no-extension', 'a.b.pt'])(
  'what is written to a file called %s is read again',
  async (name) => {
    const path = join(folder, name);
    await writeTorchCheckpoint(path, state(vector('w'), vector('ñ'), vector('\n"')));
    expect(await read(path)).toEqual({ w: [1, 2], ñ: [1, 2], '\n"': [1, 2] });
  },
);

test('as many axes and bytes of names as are read, and not one more', async () => {
  const { axes, pickleBytes } = fileLimits.torch;
  const path = join(folder, 'limits.pt');
  const shape = [2, ...new Array(axes - 1).fill(1)];
  await writeTorchCheckpoint(path, state(vector('w', shape)));
  expect(await read(path)).toEqual({ w: [1, 2] });
  const before = readdirSync(folder);
  const refused = async (contents: Parameters<typeof writeTorchCheckpoint>[1]) =>
    expect((await refusal(() => writeTorchCheckpoint(join(folder, 'more.pt'), contents))).code).toBe('limit');
  await refused(state(vector('w', [...shape, 1])));
  await refused({ ...state(vector('w')), note: 'x'.repeat(pickleBytes) });
  const many = Array.from({ length: 65_532 }, (_, i) => vector(`${i}`));
  await refused(state(...many));
  expect(readdirSync(folder)).toEqual(before);
});

test('an official folder has no configuration that is not read again, and nothing is half-written', async () => {
  const { jsonBytes, yamlBytes, depth } = fileLimits.config;
  const nested = (levels: number): unknown => (levels === 0 ? 1 : { a: nested(levels - 1) });
  const contents = {
    config: { a: 1 },
    args: { lr: 0.1 },
    ...state(vector('w')),
    key: 'model' as const,
    steps: 1,
  };
  const write = (more: object) =>
    writeOfficialFolder(join(folder, 'official'), { ...contents, weights: contents.model, ...more });
  const beyond = [
    { config: { text: 'x'.repeat(jsonBytes) } },
    { vision: { text: 'x'.repeat(jsonBytes) } },
    { args: { text: 'x'.repeat(yamlBytes) } },
    { args: nested(depth + 1) },
    { config: nested(depth + 1) },
  ];
  for (const more of beyond) expect((await refusal(() => write(more))).code).toBe('limit');
  expect(readdirSync(folder)).not.toContain('official');
  await write({ config: nested(depth), args: { text: 'x'.repeat(yamlBytes - 100) } });
  const { args, weights, close } = await readOfficialFolder(
    await openFolder(join(folder, 'official')),
    'tokenizer',
  );
  expect(args).toEqual({ text: 'x'.repeat(yamlBytes - 100) });
  expect([...weights.keys()]).toEqual(['w']);
  await close();
});
