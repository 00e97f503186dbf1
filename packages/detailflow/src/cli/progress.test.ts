import { expect, test } from 'vitest';
import { createProgress, progressText } from './progress';

test('the text beside the bar: amount, then rate and time left once they are known', () => {
  const text = (done: number, seconds: number, unit = 'tokens', total = 1000) =>
    progressText({ done, total, unit, seconds });
  expect(text(0, 0)).toBe('0/1000 tokens');
  expect(text(0, 5)).toBe('0/1000 tokens');
  expect(text(100, 2)).toBe('100/1000 tokens  50/s  18s left');
  expect(text(1, 2)).toBe('1/1000 tokens  0.5/s  33m18s left');
  expect(text(1, 20)).toBe('1/1000 tokens  0.1/s  5h33m left');
  expect(text(1000, 2)).toBe('1000/1000 tokens  500/s  0s left');
  expect(text(5e6, 2, 'bytes', 2e7)).toBe('5.0/20.0 MB  2.5 MB/s  6s left');
});

test('no bar where standard error is no terminal', () => {
  const write = process.stderr.write;
  const written: unknown[] = [];
  process.stderr.write = ((chunk: unknown) => written.push(chunk) > 0) as typeof write;
  try {
    const progress = createProgress(false);
    progress.start(3, 'files');
    progress.advance();
    progress.stop();
  } finally {
    process.stderr.write = write;
  }
  expect(written).toEqual(process.stderr.isTTY ? expect.anything() : []);
});
