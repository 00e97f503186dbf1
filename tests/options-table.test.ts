import { readFileSync } from 'node:fs';
import { DetailFlowError } from '@detailflow/core';
import { mergeSettings, parseTrainingConfig } from '@detailflow/train';
import { expect, test } from 'vitest';
import { cli, inRepository } from './cli';

// docs/options.md is read against the program: every setting and every option that it names must be there.

const page = readFileSync(inRepository('docs/options.md'), 'utf8');
const quoted = [...page.matchAll(/`([^`\n]+)`/g)].map(([, text]) => text);
const settings = [
  ...new Set(
    quoted.filter((text) =>
      /^(tokenizer|tokenModel|data|validation|checkpoints|classifier)\.[\w.]+$/.test(text),
    ),
  ),
];
const flags = [...new Set(page.match(/(?<![\w-])--[a-z][a-z-]*/g))];
const rows = page
  .split('\n')
  .filter((line) => line.startsWith('| ') && !line.startsWith('| official option'));

test('every setting that is named is one', () => {
  expect(settings.length).toBeGreaterThan(60);
  for (const setting of settings) {
    // A value that no setting takes: what is unknown is refused as such, what is known for its value, or not at all.
    const nested = setting
      .split('.')
      .reduceRight<unknown>((below, key) => ({ [key]: below }), { nonsense: 1 });
    let message = '';
    try {
      parseTrainingConfig(mergeSettings({ preset: 'tiny-32' }, nested as Record<string, unknown>));
    } catch (error) {
      if (!DetailFlowError.isInstance(error)) throw error;
      message = error.message;
    }
    expect(message, setting).not.toMatch(new RegExp(`${setting.replaceAll('.', '\\.')}: is no setting here`));
    const parents = setting.split('.').slice(0, -1).join('\\.');
    expect(message, setting).not.toMatch(new RegExp(`${parents}\\.?\\w*: is no setting here`));
    if (!/^\w+\.\w+$/.test(setting)) expect(message, setting).toContain(setting);
  }
  expect(() => parseTrainingConfig({ preset: 'tiny-32', tokenizer: { frozenn: [] } })).toThrow(
    /is no setting here/,
  );
});

test('every option that is named is one of a command', async () => {
  expect(flags.length).toBeGreaterThan(25);
  const { stdout } = await cli(['--help']);
  const commands = [...stdout.matchAll(/^ {2}(\w+) {2,}/gm)].map(([, name]) => name);
  const helps = await Promise.all(commands.map(async (name) => (await cli([name, '--help'])).stdout));
  for (const flag of flags) {
    expect(
      helps.some((help) => new RegExp(`^ +${flag}(?![\\w-])`, 'm').test(help)),
      flag,
    ).toBe(true);
  }
});

test('every row says what ours does, and every omission why', () => {
  expect(rows.length).toBeGreaterThan(70);
  for (const row of rows) {
    const cells = row
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim());
    expect(cells, row).toHaveLength(3);
    expect(cells[2], row).toMatch(/^(yes|better|differs|left out|as above)/);
    for (const [, reason = ''] of cells[2].matchAll(/left out(?: on the command line)?:?([^;]*)/g))
      expect(reason.trim().length, row).toBeGreaterThan(8);
  }
});
