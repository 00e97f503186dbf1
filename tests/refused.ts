import type { ErrorCode } from '@detailflow/core';
import { expect } from 'vitest';
import { concat, refusal } from '../packages/checkpoint/src/test-files';

/**
 * Runs an action that must be refused, by an error that names the file. One that would hang runs into the time limit of
 * the whole test; how long it takes is not compared, since that says more about the machine.
 */
export async function refused(action: () => unknown, code: ErrorCode, message = /./): Promise<void> {
  const error = await refusal(action);
  expect({ code: error.code, message: error.message }).toEqual({
    code,
    message: expect.stringMatching(message),
  });
  expect(error.file, 'the file named').toBeDefined();
  expect(error.message.length).toBeLessThan(10_000);
}

/** A header with its length, as a safetensors file begins. */
export function withLength(header: Uint8Array, claimed = BigInt(header.length)): Uint8Array {
  const prefix = new Uint8Array(8);
  new DataView(prefix.buffer).setBigUint64(0, claimed, true);
  return concat(prefix, header);
}
