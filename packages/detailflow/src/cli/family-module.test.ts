import { mkdirSync, writeFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { expect, test } from 'vitest';
import { cliFailure, cliJson, inRepository, pixels, testFolder } from '../../../../tests/cli';

const at = testFolder();

/** A module with such a text, and what names it. */
function moduleOf(name: string, text: string): string[] {
  writeFileSync(at(name), text);
  return ['--family-module', at(name)];
}

const found = (name: string) => JSON.stringify(pathToFileURL(inRepository(`packages/${name}`)).href);
const fixture = inRepository('tests/fixtures/golden/family/var');

/** VAR under another name, known by a file of its own: what somebody may write, on real weights. */
const mine = `
import { openFolder } from ${found('checkpoint/dist/node.js')};
import { varFamily } from ${found('var/dist/index.js')};

export const mine = {
  name: 'Mine',
  recognise: async (files) => 'model' in files && (await files.model.exists('mine.txt')),
  async open(files, options) {
    const model = await openFolder(${JSON.stringify(fixture)});
    return { ...(await varFamily.open({ model, settings: files.settings }, options)), family: 'Mine' };
  },
};
export default mine;
`;

test('a family of its own is opened by commands that open models', async () => {
  mkdirSync(at('model'));
  writeFileSync(at('model/mine.txt'), '');
  const module = moduleOf('mine.mjs', mine);
  const model = ['--model', at('model'), ...module];
  expect(await cliJson('inspect', at('model'), ...module)).toMatchObject({ family: 'Mine' });
  expect(await cliJson('inspect', at('model'), '--verify', ...module)).toMatchObject({ family: 'Mine' });
  await cliJson('generate', ...model, '--class', '3', '--out', at('one.png'));
  expect((await pixels(at('one.png'))).width).toBe(12);
  await cliJson('encode', ...model, at('one.png'), '--out', at('one.npy'));
  await cliJson('export', ...model, '--part', 'decoder', '--out', at('one.onnx'));
  await cliJson('convert', ...model, '--layout', 'released', '--out', at('released'));
  expect(await cliFailure(1, 'inspect', at('model'))).not.toContain('Mine');
  const queue = ['--queue', 'redis://127.0.0.1:1', '--out', at('never.png')];
  expect(await cliFailure(2, 'generate', ...model, '--class', '3', ...queue)).toMatch(
    /--family-module.*workers/,
  );
});

const frame = "name: 'X', recognise: async () => false, open() {}";

test.each<[string, string, 1 | 2, RegExp]>([
  ['family.ts', '', 2, /give a \.js or \.mjs file/],
  ['broken.mjs', 'export const = 3;', 1, /broken\.mjs: does not load as an ES module \(SyntaxError/],
  ['throws.mjs', "throw new Error('no luck');", 1, /throws\.mjs: does not load .*no luck/],
  ['imports.mjs', "import './nothing-here.mjs';", 1, /imports\.mjs: does not load .*nothing-here/],
  ['empty.mjs', '', 1, /empty\.mjs: exports nothing/],
  ['number.mjs', 'export const x = 3;', 1, /number\.mjs: x: is 3, and no family: its "name"/],
  ['null.mjs', 'export default null;', 1, /null\.mjs: default: is null, and no family/],
  [
    'half.mjs',
    `export const f = { ${frame.replace('open', 'close')} };`,
    1,
    /half\.mjs: f: .*"open" is missing/,
  ],
  [
    'named.mjs',
    `export const f = { ${frame.replace("'X'", "''")} };`,
    1,
    /named\.mjs: f: .*"name" is missing/,
  ],
  [
    'two.mjs',
    `export const f = { ${frame} }; export const help = () => 1;`,
    1,
    /two\.mjs: help: is the function/,
  ],
])('%s is refused', async (name, text, code, message) => {
  const model = ['--model', fixture, '--class', '1', '--out', at('never.png')];
  expect(await cliFailure(code, 'generate', ...model, ...moduleOf(name, text))).toMatch(message);
});

test('a module that is not there, or is a folder', async () => {
  const model = ['inspect', fixture, '--family-module'];
  expect(await cliFailure(1, ...model, at('none.mjs'))).toMatch(/none\.mjs.*no such file/);
  mkdirSync(at('folder.mjs'));
  expect(await cliFailure(1, ...model, at('folder.mjs'))).toMatch(/folder\.mjs: is no file/);
});
