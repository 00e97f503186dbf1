import type { ErrorCode } from '@detailflow/core';
import { expect } from 'vitest';
import { concat, refusal } from '../packages/checkpoint/src/test-files';

/** Runs an action that must be refused, quickly and without much memory. */
export async function refused(
  action: () => unknown,
  code: ErrorCode,
  message = /./,
  milliseconds = 2000,
): Promise<void> {
  const begun = process.cpuUsage();
  const error = await refusal(action);
  const { user, system } = process.cpuUsage(begun);
  expect({ code: error.code, message: error.message }).toEqual({
    code,
    message: expect.stringMatching(message),
  });
  expect(error.file, 'the file named').toBeDefined();
  expect(error.message.length).toBeLessThan(10_000);
  expect((user + system) / 1000, 'milliseconds of CPU time').toBeLessThan(milliseconds);
}

/** A header with its length, as a safetensors file begins. */
export function withLength(header: Uint8Array, claimed = BigInt(header.length)): Uint8Array {
  const prefix = new Uint8Array(8);
  new DataView(prefix.buffer).setBigUint64(0, claimed, true);
  return concat(prefix, header);
}
