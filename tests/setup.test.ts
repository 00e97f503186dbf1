import { existsSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { runStep } from '../tools/step.mjs';
import { testFolder } from './cli';

const at = testFolder();

/** Runs a program of one line; `seen` gets everything that is shown, as it is shown. */
async function step(program: string, isTTY: boolean, seen: (text: string) => void = () => {}) {
  const shown: string[] = [];
  const write = (text: string) => {
    shown.push(text);
    seen(text);
  };
  const succeeded = await runStep({
    title: 'building',
    command: process.execPath,
    args: ['--eval', program],
    pause: 20,
    state: (output: string) => output.trim().split('\n').at(-1) || undefined,
    stream: { isTTY, write },
  });
  return { succeeded, text: shown.join('') };
}

test.each([false, true])('a step says how far it is while it runs (terminal: %s)', async (isTTY) => {
  const go = at(`go-${isTTY}`);
  // It ends only when its progress has been shown.
  const program = `console.log('2 of 3'); setInterval(() => require('fs').existsSync(${JSON.stringify(go)}) && process.exit(0), 10)`;
  const { succeeded, text } = await step(program, isTTY, (shown) => {
    if (shown.includes('2 of 3') && !existsSync(go)) writeFileSync(go, '');
  });
  expect(succeeded).toBe(true);
  expect(text).toMatch(/building \.\.\. {2}2 of 3 {2}\d+ s/);
  expect(text.includes('\r\u001b[K')).toBe(isTTY);
  expect(text).toMatch(/building: done after \d+ s\n$/);
});

test('a step that fails shows all that was printed', async () => {
  const { succeeded, text } = await step(`console.log('one'); console.error('two'); process.exit(3)`, false);
  expect(succeeded).toBe(false);
  expect(text).toMatch(/building: failed \(exit code 3\) after \d+ s\none\ntwo\n/);
});
