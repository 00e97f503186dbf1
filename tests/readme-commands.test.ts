import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { inRepository } from './cli';
import { expectPictures, readmeBlocks, readmeProgram, runInOrder, smaller } from './readme-commands';

// The same commands in a project that has installed the packages: installable.slow.test.ts.

// A clone whose out/ and runs/ are a folder of this test.
const folder = mkdtempSync(path.join(tmpdir(), 'detailflow-clone-'));
for (const entry of ['package.json', 'node_modules', 'packages', 'tools', 'examples']) {
  symlinkSync(inRepository(entry), path.join(folder, entry), 'junction');
}
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test('every block of commands says where it runs', () => {
  const places = readmeBlocks().map(({ place }) => place);
  expect(new Set(places)).toEqual(
    new Set(['a clone', 'a project', 'both', 'both, with a small configuration', 'nowhere']),
  );
});

test('in a clone the commands run in their order, after the program, and none undoes what another made', async () => {
  writeFileSync(path.join(folder, 'program.mjs'), readmeProgram());
  await runInOrder([`${process.execPath} program.mjs`], folder);
  for (const { place, commands } of readmeBlocks()) {
    if (place === 'a clone') expect(commands).toEqual(['npm run demo']); // run by examples.test.ts
    if (place === 'both') {
      const outputs = await runInOrder(commands, folder);
      expect(outputs[0]).toMatch(/19 {2}vehicle\nrecommended CFG: [\d.]+/);
      await expectPictures(commands, folder);
    }
    if (place === 'both, with a small configuration') {
      const outputs = await runInOrder(smaller(commands, folder), folder);
      expect(outputs[0]).toMatch(/runs\/shapes\/bundle\n/);
      expect(outputs[1]).toMatch(/^ {2}0 {2}sphere$/m);
    }
  }
});

test('each way of leaving the CUDA libraries out is one that the install script knows', () => {
  const script = inRepository('node_modules/onnxruntime-node/script/install.js');
  const ways = [{ ONNXRUNTIME_NODE_INSTALL: 'skip' }, { npm_config_onnxruntime_node_install: 'skip' }];
  for (const way of ways) {
    const env = { PATH: process.env.PATH, ...way };
    expect(spawnSync(process.execPath, [script], { cwd: folder, env, encoding: 'utf8' })).toMatchObject({
      status: 0,
      stdout: '',
      stderr: '',
    });
  }
});
