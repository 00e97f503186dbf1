import { mkdirSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { cli, cliFailure, fashion, inRepository, testFolder } from '../../../../tests/cli';

const at = testFolder();
const family = (name: string) => inRepository(`tests/fixtures/golden/family/llamagen/${name}`);
const texts = ['--tokenizer', family('vq'), '--ar', family('gpt_t2i')];
const good = 'export const encodeText = () => ({});';

/** A module with such a text, and what names it. */
function moduleOf(name: string, text: string): string[] {
  writeFileSync(at(name), text);
  return ['--text-encoder', at(name)];
}

test.each<[string, string, 1 | 2, RegExp]>([
  ['encoder.ts', good, 2, /--text-encoder .*give a \.js or \.mjs file/],
  ['broken.mjs', 'export const = 3;', 1, /broken\.mjs: does not load as an ES module \(SyntaxError/],
  ['throws.mjs', "throw new Error('no luck');", 1, /throws\.mjs: does not load .*no luck/],
  ['imports.mjs', "import './nothing-here.mjs';", 1, /imports\.mjs: does not load .*nothing-here/],
  ['empty.mjs', '', 1, /empty\.mjs: encodeText: is not exported: export async function encodeText/],
  ['another.mjs', 'export const encode = () => ({});', 1, /another\.mjs: encodeText: is not exported/],
  ['number.mjs', 'export const encodeText = 3;', 1, /number\.mjs: encodeText: is 3, and no function/],
  ['null.mjs', 'export const encodeText = null;', 1, /null\.mjs: encodeText: is null, and no function/],
])('%s is refused', async (name, text, code, message) => {
  expect(await cliFailure(code, 'serve', ...texts, ...moduleOf(name, text))).toMatch(message);
});

test('a module that is not there, is a folder, or is for a model of classes', async () => {
  const serve = ['serve', ...texts, '--text-encoder'];
  expect(await cliFailure(1, ...serve, at('none.mjs'))).toMatch(/none\.mjs.*no such file/);
  mkdirSync(at('folder.mjs'));
  expect(await cliFailure(1, ...serve, at('folder.mjs'))).toMatch(/folder\.mjs: is no file/);
  expect(await cliFailure(2, 'serve', ...fashion, ...moduleOf('good.mjs', good))).toMatch(/has classes/);
});

test.each([
  ['--max-prompt', '0'],
  ['--max-prompt', '32001'],
  ['--max-texts', '257'],
  ['--max-texts', '-1'],
  ['--text-timeout', '0'],
  ['--text-timeout', 'soon'],
])('%s %s is refused, and any of it without an encoder', async (option, value) => {
  const model = ['serve', ...texts];
  const encoder = moduleOf('good.mjs', good);
  expect((await cli([...model, ...encoder, `${option}=${value}`])).stderr).toContain(option);
  expect(await cliFailure(2, ...model, option, '5')).toContain(`${option} is for --text-encoder`);
});
