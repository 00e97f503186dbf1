import { appendFile, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { maskedChecksum, tensorBoardEvents } from '../../../../tests/tensorboard-events';
import { EventFile, scalarsOf } from './event-file';

let home: string;
beforeAll(async () => {
  home = await mkdtemp(path.join(tmpdir(), 'events-'));
});
afterAll(() => rm(home, { recursive: true }));

test('the known checksum of "123456789"', () => {
  const crc = 0xe3069283;
  expect(maskedChecksum(new TextEncoder().encode('123456789'))).toBe(
    (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0,
  );
});

test('figures of a log are read back, and steps that are made again replace those before', async () => {
  const file = path.join(home, 'events.out.tfevents.1');
  const first = await EventFile.open(file, 0);
  const line = {
    step: 300,
    loss: 0.5,
    psnr: { 8: 20.25 },
    positionLoss: [1, 2],
    variant: { noiseIndex: null },
  };
  expect(scalarsOf(line)).toEqual({ loss: 0.5, 'psnr/8': 20.25 });
  const earliest = Date.now() / 1000;
  for (const step of [0, 300, 70_000]) await first.append(step, scalarsOf({ ...line, step }));
  const all = await tensorBoardEvents(file);
  expect(all[0]).toMatchObject({ file_version: 'brain.Event:2' });
  expect(all.slice(1).map(({ step }) => step)).toEqual([0, 300, 70_000]);
  expect(all[2].summary.value).toEqual([
    { tag: 'loss', simple_value: 0.5 },
    { tag: 'psnr/8', simple_value: 20.25 },
  ]);
  // Seconds since 1970, of the time when it was written.
  expect(all[2].wall_time).toBeGreaterThanOrEqual(earliest);
  expect(all[2].wall_time).toBeLessThanOrEqual(Date.now() / 1000);

  await appendFile(file, Uint8Array.of(1, 2, 3)); // of a process that was killed
  const again = await EventFile.open(file, 300);
  await again.append(300, { loss: 0.25 });
  const now = await tensorBoardEvents(file);
  expect(now.map(({ step }) => step)).toEqual([0, 0, 300]);
  expect(now[2].summary.value[0].simple_value).toBe(0.25);
});
