import { DetailFlowError } from '@detailflow/core';

/** An array of bytes in the IDX layout of MNIST. */
export interface IdxArray {
  readonly dims: readonly number[];
  readonly data: Uint8Array;
}

const UNSIGNED_BYTE = 8;
const MOST_AXES = 4;

/**
 * Reads an IDX file of bytes: two zero bytes, the type, the number of axes, the extents as big-endian words, the data.
 * @throws DetailFlowError `format` or `unsupported`, naming the file
 */
export function parseIdx(bytes: Uint8Array, file?: string): IdxArray {
  const fail = (reason: string) => new DetailFlowError('format', `is no IDX file: ${reason}`, { file });
  if (bytes.length < 4 || bytes[0] !== 0 || bytes[1] !== 0) throw fail('it must begin with two zero bytes');
  const [, , type, axes] = bytes;
  if (type !== UNSIGNED_BYTE) {
    throw new DetailFlowError('unsupported', `holds IDX type ${type}; only bytes (8) are read`, { file });
  }
  if (axes < 1 || axes > MOST_AXES) throw fail(`it has ${axes} axes, 1 to ${MOST_AXES} are possible`);
  const header = 4 + 4 * axes;
  if (bytes.length < header) throw fail('it ends within its header');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const dims = Array.from({ length: axes }, (_, i) => view.getUint32(4 + 4 * i));
  const size = dims.reduce((a, b) => a * b, 1);
  if (bytes.length - header !== size) {
    throw fail(`[${dims.join(', ')}] makes ${size} bytes, ${bytes.length - header} follow the header`);
  }
  return { dims, data: bytes.subarray(header) };
}
