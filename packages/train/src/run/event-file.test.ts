import { appendFile, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import protobuf from 'protobufjs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { EventFile, scalarsOf } from './event-file';

// Read back with the schema of TensorBoard's event.proto and a checksum of its own.
const { root } = protobuf.parse(
  `syntax = "proto3";
  message Value { string tag = 1; float simple_value = 2; }
  message Summary { repeated Value value = 1; }
  message Event { double wall_time = 1; int64 step = 2; string file_version = 3; Summary summary = 5; }`,
  { keepCase: true },
);

/** Bit by bit, unlike the table of the source. */
function masked(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    for (let bit = 0; bit < 8; bit++) {
      const isSet = ((crc ^ (byte >> bit)) & 1) === 1;
      crc = isSet ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
    }
  }
  crc = ~crc >>> 0;
  return Number(
    (BigInt((crc >>> 15) | 0) + ((BigInt(crc) << 17n) & 0xffffffffn) + 0xa282ead8n) & 0xffffffffn,
  );
}

async function events(file: string) {
  const bytes = await readFile(file);
  const found = [];
  for (let at = 0; at < bytes.length; ) {
    const length = Number(bytes.readBigUInt64LE(at));
    expect(bytes.readUInt32LE(at + 8)).toBe(masked(bytes.subarray(at, at + 8)));
    const data = bytes.subarray(at + 12, at + 12 + length);
    expect(bytes.readUInt32LE(at + 12 + length)).toBe(masked(data));
    const message = root.lookupType('Event').decode(data);
    found.push(root.lookupType('Event').toObject(message, { longs: Number, defaults: true }));
    at += 16 + length;
  }
  return found;
}

let home: string;
beforeAll(async () => {
  home = await mkdtemp(path.join(tmpdir(), 'events-'));
});
afterAll(() => rm(home, { recursive: true }));

test('the known checksum of "123456789"', () => {
  const crc = 0xe3069283;
  expect(masked(new TextEncoder().encode('123456789'))).toBe(
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
  const all = await events(file);
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
  const now = await events(file);
  expect(now.map(({ step }) => step)).toEqual([0, 0, 300]);
  expect(now[2].summary.value[0].simple_value).toBe(0.25);
});
