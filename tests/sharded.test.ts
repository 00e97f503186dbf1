import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { openFile } from '@detailflow/checkpoint/node';
import { openSafetensors } from '@detailflow/core';
import { encodeSafetensors } from '@detailflow/core/safetensors-writer';
import { fileStamp, readNetwork } from '@detailflow/eval/node';
import { expect, test } from 'vitest';
import { cli, cliFailure, cliJson, goldenBoth, inRepository, testFolder } from './cli';

const at = testFolder();

/** Puts the tensors of a safetensors file into three files with an index. */
async function shard(file: string): Promise<void> {
  const source = await openFile(file);
  const { weights } = await openSafetensors(source);
  const all = [...weights.values()];
  const stem = file.slice(0, -'.safetensors'.length);
  const map: Record<string, string> = {};
  for (const part of [0, 1, 2]) {
    const name = `${stem}-0000${part + 1}-of-00003.safetensors`;
    const plan = encodeSafetensors(all.filter((_, i) => i % 3 === part));
    const chunks = await Promise.all(plan.tensors.map(({ entry }) => entry.read()));
    writeFileSync(name, Buffer.concat([plan.header, ...chunks]));
    for (const { entry } of plan.tensors) map[entry.name] = path.basename(name);
  }
  await source.close();
  rmSync(file);
  writeFileSync(`${file}.index.json`, JSON.stringify({ metadata: {}, weight_map: map }));
}

test('a model in several files is what it is in one: bundle and official folders, on the command line', async () => {
  const bundle = at('bundle');
  expect((await cli(['convert', ...goldenBoth('A'), '--out', bundle])).code).toBe(0);
  const sharded = at('sharded');
  cpSync(bundle, sharded, { recursive: true });
  for (const name of ['tokenizer', 'ar']) await shard(path.join(sharded, `${name}.safetensors`));
  expect(readdirSync(sharded)).toHaveLength(9);

  const official = at('official');
  for (const [part, file] of [
    ['tokenizer', 'model'],
    ['ar', 'ema'],
  ]) {
    const from = inRepository(`tests/fixtures/golden/A/${part}`);
    mkdirSync(path.join(official, part), { recursive: true });
    for (const name of readdirSync(from)) {
      if (/\.(json|yaml)$/.test(name)) cpSync(path.join(from, name), path.join(official, part, name));
    }
    const weights = path.join(official, part, `${file}.safetensors`);
    cpSync(path.join(from, `${file}.safetensors`), weights);
    await shard(weights);
  }

  const drawn = async (model: string) => {
    const tokens = at(`${path.basename(model)}.npy`);
    await cliJson(
      'generate',
      '--model',
      model,
      '--class',
      '1',
      '--seed',
      '3',
      '--out',
      at('x.png'),
      '--save-tokens',
      tokens,
    );
    return readFileSync(tokens);
  };
  const expected = await drawn(bundle);
  expect(await drawn(sharded)).toEqual(expected);
  expect(await drawn(official)).toEqual(expected);
  const { tokenizer } = await cliJson('inspect', '--model', official);
  expect(tokenizer.file).toBe(path.join(official, 'tokenizer/model.safetensors.index.json'));
  const again = at('again');
  expect((await cli(['convert', '--model', sharded, '--out', again])).code).toBe(0);
  expect(readdirSync(again)).toContain('ar.safetensors');

  rmSync(path.join(sharded, 'ar-00002-of-00003.safetensors'));
  expect(await cliFailure(1, 'inspect', '--model', sharded)).toMatch(
    /ar-00002-of-00003.safetensors.*no such file/,
  );
});

test('networks in several files are read, and their stamp knows every file', async () => {
  const folder = at('network');
  cpSync(inRepository('tests/fixtures/shards'), folder, { recursive: true });
  const file = path.join(folder, 'model.safetensors');
  const weights = await readNetwork(file, [
    { name: 'a', shape: [2] },
    { name: 'b', shape: [2] },
  ]);
  expect([...weights.keys()]).toEqual(['a', 'b']);
  const before = await fileStamp([file]);
  expect(before).toContain('model-00002-of-00002.safetensors');
  writeFileSync(path.join(folder, 'model-00002-of-00002.safetensors'), 'another');
  expect(await fileStamp([file])).not.toBe(before);
  expect(await fileStamp([`${file}.index.json`])).toBe(await fileStamp([file]));
});
