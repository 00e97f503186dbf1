import { createHash } from 'node:crypto';
import { cpSync, mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { openMember, readZip } from '@detailflow/checkpoint';
import { bytesSource, readSafetensors } from '@detailflow/core';
import { expect, test } from 'vitest';
import {
  cli,
  cliFailure,
  cliJson,
  fashion,
  goldenBoth,
  inRepository,
  testFolder,
} from '../../../../tests/cli';

const at = testFolder();

test('says what was checked, and what was not', async () => {
  const { verified } = await cliJson('inspect', ...fashion, '--verify');
  const zips = verified.files.filter(({ members }: { members?: unknown }) => members);
  expect(zips).toHaveLength(2);
  for (const { file, members } of zips) {
    const bytes = new Uint8Array(readFileSync(file));
    expect(members).toEqual({ checked: (await readZip(bytesSource(bytes))).size, withoutChecksum: 0 });
  }
  expect(verified.faults).toEqual([]);
  for (const line of verified.notChecked)
    expect(line).toMatch(/(LICENSE.*|README|expected|samples).*: not part of what is loaded/);
  expect(verified.tokenizer.values).toBeGreaterThan(100_000);
  const { stdout } = await cli(['inspect', ...fashion, '--verify']);
  expect(stdout).toMatch(/checked, and found sound:\n.*config.json: [\d,]+ bytes/);
  expect(stdout).toMatch(/CRC-32 of \d+ zip members/);
  expect(stdout).toMatch(/[\d,]+ numbers in \d+ tensors are finite/);

  const bundle = at('bundle');
  expect((await cli(['convert', ...goldenBoth('A'), '--out', bundle])).code).toBe(0);
  writeFileSync(path.join(bundle, 'notes.txt'), 'mine');
  const second = await cliJson('inspect', '--model', bundle, '--verify');
  expect(second.verified.notChecked).toEqual([
    expect.stringMatching(/tokenizer.safetensors: the format has no checksum/),
    expect.stringMatching(/ar.safetensors: the format has no checksum/),
    expect.stringMatching(/notes.txt: not part of what is loaded/),
  ]);
});

test('a file of safetensors whose end was never written is found; a last tensor or row of zeros is nothing strange', async () => {
  const bundle = at('holed');
  expect((await cli(['convert', ...goldenBoth('A'), '--out', bundle])).code).toBe(0);
  const file = path.join(bundle, 'ar.safetensors');
  const whole = readFileSync(file);
  const last = [...(await readSafetensors(bytesSource(new Uint8Array(whole)))).values()].at(-1);
  const shape = last?.shape ?? [];
  const [rows, row] = [shape[0], 4 * (shape.at(-1) as number)];
  expect(rows * row).toBeGreaterThan(4096 + row);
  for (const zeros of [rows * row, (rows - 1) * row]) {
    writeFileSync(file, Buffer.from(whole).fill(0, whole.length - zeros));
    expect((await cliJson('inspect', '--model', bundle, '--verify')).verified.faults).toEqual([]);
  }
  writeFileSync(file, Buffer.from(whole).fill(0, whole.length >> 1));
  const stderr = await cliFailure(1, 'inspect', '--model', bundle, '--verify');
  expect(stderr).toMatch(/ar\.safetensors: its last \d+ bytes are zeros, from within \S+ on/);
});

test('one flipped bit of any member is found, also of one that nobody needs', async () => {
  const folder = at('fashion');
  cpSync(inRepository('tests/fixtures/fashion-ref'), folder, { recursive: true });
  const { tokenizer } = await cliJson('inspect', '--model', folder);
  const whole = new Uint8Array(readFileSync(tokenizer.file));
  const source = bytesSource(whole);
  const members = [...(await readZip(source)).values()].filter(({ size }) => size > 0);
  const largest = members.reduce((a, b) => (b.size > a.size ? b : a));
  const unneeded = members.find(({ name }) => !/data\.pkl|\/data\//.test(name)) ?? largest;
  for (const member of [largest, unneeded]) {
    const broken = whole.slice();
    broken[member.offset + member.size - 1] ^= 1;
    writeFileSync(tokenizer.file, broken);
    const stderr = await cliFailure(1, 'inspect', '--model', folder, '--verify');
    expect(stderr).toMatch(/damaged|not known/);
    expect(stderr).toContain(member.name);
  }
  expect(await openMember(source, largest).verify()).toBe(true);
});

test('numbers that are not finite are counted, by name', async () => {
  const bundle = at('nan');
  expect((await cli(['convert', ...goldenBoth('A'), '--out', bundle])).code).toBe(0);
  const file = path.join(bundle, 'ar.safetensors');
  const bytes = new Uint8Array(readFileSync(file));
  const weights = [...(await readSafetensors({ ...bytesSource(bytes), path: file })).values()];
  const { name, location } = weights[weights.length - 1];
  new DataView(bytes.buffer).setFloat32(location!.offset, Number.NaN, true);
  new DataView(bytes.buffer).setFloat32(location!.offset + 4, Number.POSITIVE_INFINITY, true);
  writeFileSync(file, bytes);
  const stderr = await cliFailure(1, 'inspect', '--model', bundle, '--verify');
  expect(stderr).toMatch(/2 of \d+ numbers are not finite/);
  expect(stderr).toContain(name);
});

test('hashes that a Hugging Face cache states are compared', async () => {
  const bundle = at('plain');
  expect((await cli(['convert', ...goldenBoth('A'), '--out', bundle])).code).toBe(0);
  const cache = at('models--me--mine');
  const snapshot = path.join(cache, 'snapshots/1');
  mkdirSync(snapshot, { recursive: true });
  mkdirSync(path.join(cache, 'blobs'));
  const blob = (name: string) => {
    const hash = createHash('sha256')
      .update(readFileSync(path.join(bundle, name)))
      .digest('hex');
    return path.join(cache, 'blobs', hash);
  };
  for (const name of ['config.json', 'tokenizer.safetensors', 'ar.safetensors']) {
    cpSync(path.join(bundle, name), blob(name));
    symlinkSync(path.relative(snapshot, blob(name)), path.join(snapshot, name));
  }
  // Python keeps what several repositories have once, by a hash of another kind, and lets blobs be links to it.
  const shared = path.join(at('blobs'), 'ab', 'ab'.repeat(32));
  mkdirSync(path.dirname(shared), { recursive: true });
  renameSync(blob('ar.safetensors'), shared);
  symlinkSync(path.relative(path.join(cache, 'blobs'), shared), blob('ar.safetensors'));
  const { verified } = await cliJson('inspect', '--model', snapshot, '--verify');
  expect(verified.files.map(({ sha256 }: { sha256: string }) => sha256)).toEqual([
    ...['config.json', 'tokenizer.safetensors', 'ar.safetensors'].map((name) => path.basename(blob(name))),
  ]);
  expect(verified.notChecked).toEqual([]);
  const place = blob('ar.safetensors');
  const changed = readFileSync(place);
  changed[changed.length - 4] ^= 1; // a value becomes another value
  rmSync(shared);
  writeFileSync(shared, changed);
  expect(await cliFailure(1, 'inspect', '--model', snapshot, '--verify')).toMatch(/SHA-256 is not/);
});
