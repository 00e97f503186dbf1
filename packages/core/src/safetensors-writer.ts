import { formatShape } from './dim';
import { DetailFlowError } from './errors';
import { fileLimits } from './file-limits';
import { byteLength, dtypeNames } from './safetensors-header';
import { type StorageDType, storageBytes } from './weights';

const limits = fileLimits.safetensors;

/** Name, data type and shape of a tensor that is to be written. A weight is one. */
export interface SafetensorsEntry {
  readonly name: string;
  readonly dtype: StorageDType;
  readonly shape: readonly number[];
}

/** The plan of a safetensors file: write `header`, then the bytes of each of `tensors`, one after the other. */
export interface SafetensorsPlan<T extends SafetensorsEntry> {
  /** The length prefix and the JSON header, padded so that the data starts at a multiple of 8. */
  readonly header: Uint8Array;
  /** In the order in which their bytes must follow; `offset` counts from the start of the file. */
  readonly tensors: readonly { readonly entry: T; readonly offset: number; readonly length: number }[];
  /** Bytes of the whole file. */
  readonly size: number;
}

/**
 * Lays out a safetensors file without touching tensor data, so that a writer never holds more than one tensor.
 * The header lists the entries in the order given; the data lies widest element first, so that every tensor is
 * aligned to its element size.
 * @throws DetailFlowError `invalid-argument` for duplicate or reserved names, impossible shapes, and whatever goes beyond
 *   `fileLimits.safetensors`
 */
export function encodeSafetensors<T extends SafetensorsEntry>(
  entries: Iterable<T>,
  metadata: Readonly<Record<string, string>> = {},
): SafetensorsPlan<T> {
  const sized = [...entries].map((entry) => ({ entry, length: checkEntry(entry) }));
  if (sized.length >= limits.keys) throw refuse(`more than ${limits.keys - 1} tensors`);
  const byWidth = (entry: T) => storageBytes[entry.dtype];
  const ordered = [...sized].sort((a, b) => byWidth(b.entry) - byWidth(a.entry));
  const begins = new Map<string, number>();
  let dataBytes = 0;
  for (const { entry, length } of ordered) {
    if (begins.has(entry.name)) throw refuse('two tensors have this name', entry.name);
    begins.set(entry.name, dataBytes);
    dataBytes += length;
  }

  // Joined by hand: as keys of an object, names such as "1" would come first and "__proto__" would vanish.
  const fields = sized.map(({ entry, length }) => {
    const begin = begins.get(entry.name) as number;
    const value = {
      dtype: dtypeNames[entry.dtype],
      shape: entry.shape,
      data_offsets: [begin, begin + length],
    };
    return `${JSON.stringify(entry.name)}:${JSON.stringify(value)}`;
  });
  const keys = Object.keys(metadata);
  if (keys.length > 0) {
    if (Object.entries(metadata).flat().some(malformed))
      throw refuse('not well-formed strings', '__metadata__');
    if (keys.length > limits.keys || keys.some((key) => key.length > limits.nameLength)) {
      throw refuse(
        `more than ${limits.keys} entries, or a key of more than ${limits.nameLength} characters`,
        '__metadata__',
      );
    }
    fields.unshift(`"__metadata__":${JSON.stringify(metadata)}`);
  }
  const json = new TextEncoder().encode(`{${fields.join(',')}}`);
  const headerBytes = Math.ceil(json.length / 8) * 8;
  if (headerBytes > limits.headerBytes) {
    throw refuse(`the header would take ${headerBytes} bytes, the format allows ${limits.headerBytes}`);
  }
  const header = new Uint8Array(8 + headerBytes).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(headerBytes), true);
  header.set(json, 8);

  const tensors = ordered.map(({ entry, length }) => ({
    entry,
    offset: header.length + (begins.get(entry.name) as number),
    length,
  }));
  return { header, tensors, size: header.length + dataBytes };
}

function checkEntry({ name, dtype, shape }: SafetensorsEntry): number {
  if (name === '__metadata__') throw refuse('this name is reserved by the format', name);
  if (malformed(name)) throw refuse('the name is not a well-formed string', name);
  if (name.length > limits.nameLength) {
    throw refuse(`the name has more than ${limits.nameLength} characters`, name.slice(0, 100));
  }
  if (shape.length > limits.axes) throw refuse(`more than ${limits.axes} axes`, name);
  const valid = shape.every((extent) => Number.isSafeInteger(extent) && extent >= 0);
  const length = valid ? byteLength(shape, dtype) : undefined;
  if (length === undefined) throw refuse(`shape ${formatShape(shape)} is impossible`, name);
  return length;
}

function malformed(text: unknown): boolean {
  return typeof text !== 'string' || /\p{Surrogate}/u.test(text);
}

function refuse(reason: string, entry?: string): DetailFlowError {
  return new DetailFlowError('invalid-argument', `cannot be written as safetensors: ${reason}`, { entry });
}
