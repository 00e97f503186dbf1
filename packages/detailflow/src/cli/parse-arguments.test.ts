import { describe, expect, test } from 'vitest';
import type { Command } from './command';
import { parseArguments } from './parse-arguments';

const command: Command = {
  name: 'draw',
  summary: 'draw',
  usage: '',
  options: {
    class: { type: 'string', repeatable: true, help: '' },
    out: { type: 'string', help: '' },
    seed: { type: 'string', help: '' },
    grid: { type: 'boolean', help: '' },
    'top-k': { type: 'string', help: '' },
  },
  examples: [],
  run: async () => ({ lines: [], json: {} }),
};
const parse = (...args: string[]) => parseArguments(command, args);

test('options in any order, with and without "=", and what lies between', () => {
  expect(parse('a.png', '--grid', '--seed=-1', '--out', 'x', '--top-k', '-3', '--', '--b.png')).toEqual({
    values: { grid: true, seed: '-1', out: 'x', 'top-k': '-3' },
    positionals: ['a.png', '--b.png'],
  });
  expect(parse('--class', 'bag', '--class=3,4').values).toEqual({ class: 'bag,3,4' });
  expect(parse('-h').values).toEqual({ help: true });
  expect(parse('--out', '').values).toEqual({ out: '' });
});

describe('refused', () => {
  test.each([
    ['there is no option --clas; did you mean --class?', ['--clas', '3']],
    ['there is no option --output; did you mean --out?', ['--output=x.png']],
    ['there is no option --topk; did you mean --top-k?', ['--topk', '3']],
    ['there is no option -out; did you mean --out? (a file', ['-out', 'x.png']],
    ['there is no option -x (a file whose name begins with "-" is written ./-name)', ['-x']],
    ['there is no option -hx', ['-hx']],
    ['there is no option --zzz', ['--zzz']],
    ['there is no option --__proto__', ['--__proto__=1']],
    ['--out lacks its value', ['--out']],
    ['--out lacks its value (one that begins with "-" is written --out=--json)', ['--out', '--json']],
    ['--grid takes no value, and "yes" is given', ['--grid=yes']],
    ['--seed is given twice: "1" and "2"', ['--seed', '1', '--seed=2']],
  ])('%s', (message, args) => {
    expect(() => parse(...args)).toThrow(message);
  });
});
