import { type ByteSource, checkRange } from './byte-source';
import { DetailFlowError } from './errors';
import { fileLimits } from './file-limits';
import { parseHeader } from './safetensors-header';
import type { Weight, Weights } from './weights';

const limits = fileLimits.safetensors;

/** What {@link readSafetensors} finds: the weights, and the file's own string-to-string metadata. */
export interface SafetensorsFile {
  readonly weights: Weights;
  readonly metadata: ReadonlyMap<string, string>;
}

/**
 * Opens a safetensors file: reads and checks its header, and leaves the tensors on disk until they are read.
 * The weights come in the order of the header; their `location` is set when `source.path` is.
 * Keep the source open for as long as the weights are read.
 *
 * Refused are: a header beyond 100 MB or the file, invalid UTF-8 or JSON, duplicate keys, unknown data types,
 * shapes that overflow or do not fit their bytes, and data that overlaps, leaves gaps or trails.
 * @throws DetailFlowError `format`, `io`
 */
export async function readSafetensors(source: ByteSource): Promise<Weights> {
  return (await openSafetensors(source)).weights;
}

/** As {@link readSafetensors}, with the file's `__metadata__`. */
export async function openSafetensors(source: ByteSource): Promise<SafetensorsFile> {
  const file = source.name;
  const fail = (reason: string) =>
    new DetailFlowError('format', `not a valid safetensors file: ${reason}`, { file });
  if (source.size < 10) throw fail(`${source.size} bytes are too few`);
  const prefix = await source.read(0, 8);
  const view = new DataView(prefix.buffer, prefix.byteOffset, 8);
  const headerBytes = view.getUint32(4, true) * 2 ** 32 + view.getUint32(0, true);
  if (headerBytes > limits.headerBytes) {
    throw fail(`its header claims ${headerBytes} bytes, the format allows ${limits.headerBytes}`);
  }
  if (headerBytes > source.size - 8) {
    throw fail(`its header claims ${headerBytes} bytes, the file has ${source.size}`);
  }
  const base = 8 + headerBytes;
  const header = parseHeader(file, await source.read(8, headerBytes), source.size - base);
  const weights = new Map<string, Weight>();
  for (const { name, dtype, shape, begin, end } of header.tensors) {
    const offset = base + begin;
    const length = end - begin;
    checkRange(file, source.size, offset, length);
    weights.set(name, {
      name,
      dtype,
      shape,
      location: source.path === undefined ? undefined : { path: source.path, offset, length },
      read: () => source.read(offset, length),
    });
  }
  return { weights, metadata: header.metadata };
}
