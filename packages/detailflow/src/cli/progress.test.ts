import { expect, onTestFinished, test, vi } from 'vitest';
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

/** Standard error that is a file, or a terminal; `at` is the clock, in milliseconds. */
async function shown(options: { quiet?: boolean; isTTY?: boolean } = {}) {
  const written: string[] = [];
  const stream = { isTTY: options.isTTY ?? false, write: (text: string) => written.push(text) > 0 };
  let now = 0;
  const clock = vi.spyOn(performance, 'now').mockImplementation(() => now);
  onTestFinished(() => clock.mockRestore());
  const progress = await createProgress({
    quiet: options.quiet ?? false,
    stream: stream as unknown as NodeJS.WriteStream,
  });
  return { progress, written, at: (milliseconds: number) => (now = milliseconds) };
}

test('where standard error is no terminal: a line every ten seconds, none for what is done sooner', async () => {
  const { progress, written, at } = await shown();
  progress.start(100, 'files');
  for (let second = 1; second <= 25; second++) {
    at(1000 * second);
    progress.advance(4);
  }
  progress.stop();
  expect(written).toEqual(['40/100 files  4.0/s  15s left\n', '80/100 files  4.0/s  5s left\n']);
});

test('several counts in a row share one pause', async () => {
  const { progress, written, at } = await shown();
  for (let second = 1; second <= 19; second++) {
    progress.start(1, 'images');
    at(1000 * second);
    progress.advance();
    progress.stop();
  }
  expect(written).toHaveLength(1);
});

test('nothing with --json', async () => {
  const { progress, written, at } = await shown({ quiet: true });
  progress.start(2, 'files');
  at(60_000);
  progress.advance();
  progress.stop();
  expect(written).toEqual([]);
});
