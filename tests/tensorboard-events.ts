import { readFile } from 'node:fs/promises';
import protobuf from 'protobufjs';
import { expect } from 'vitest';

// TensorBoard's event files, read with the schema of its event.proto and a checksum of our own.
const { root } = protobuf.parse(
  `syntax = "proto3";
  message Value { string tag = 1; float simple_value = 2; }
  message Summary { repeated Value value = 1; }
  message Event { double wall_time = 1; int64 step = 2; string file_version = 3; Summary summary = 5; }`,
  { keepCase: true },
);

/** The masked CRC32C, bit by bit, unlike the table of the source. */
export function maskedChecksum(bytes: Uint8Array): number {
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

/** Every event of a file, its checksums compared. */
export async function tensorBoardEvents(file: string) {
  const bytes = await readFile(file);
  const found = [];
  for (let at = 0; at < bytes.length; ) {
    const length = Number(bytes.readBigUInt64LE(at));
    expect(bytes.readUInt32LE(at + 8)).toBe(maskedChecksum(bytes.subarray(at, at + 8)));
    const data = bytes.subarray(at + 12, at + 12 + length);
    expect(bytes.readUInt32LE(at + 12 + length)).toBe(maskedChecksum(data));
    const message = root.lookupType('Event').decode(data);
    found.push(root.lookupType('Event').toObject(message, { longs: Number, defaults: true }));
    at += 16 + length;
  }
  return found;
}
