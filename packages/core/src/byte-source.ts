import { DetailFlowError } from './errors';

/**
 * Random access to bytes that lie somewhere: a file on disk, a URL that answers range requests, a dropped File.
 * Adapters for Node live in `@detailflow/checkpoint/node`.
 */
export interface ByteSource {
  /** Name for messages: a path or URL. */
  readonly name: string;
  /** Total length in bytes. */
  readonly size: number;
  /**
   * The bytes [offset, offset + length). The caller owns the result.
   * @throws DetailFlowError `io` when the range lies outside the source or reading fails.
   */
  read(offset: number, length: number): Promise<Uint8Array>;
  /** Absolute path, when the bytes are a local file that a runtime may map into memory itself. */
  readonly path?: string;
  /** Frees what it holds, such as a file. */
  close?(): Promise<void>;
}

/** A {@link ByteSource} over bytes in memory. */
export function bytesSource(bytes: Uint8Array, name = 'memory'): ByteSource {
  return {
    name,
    size: bytes.byteLength,
    async read(offset, length) {
      checkRange(name, bytes.byteLength, offset, length);
      return new Uint8Array(bytes.subarray(offset, offset + length)); // slice would not copy a Node Buffer
    },
  };
}

/** Throws unless [offset, offset + length) lies inside a source of `size` bytes. For adapters. */
export function checkRange(name: string, size: number, offset: number, length: number): void {
  const fits = Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length >= 0;
  if (!fits || offset + length > size) {
    throw new DetailFlowError(
      'io',
      `bytes ${offset}..${offset + length} lie outside the ${size} bytes there are`,
      {
        file: name,
      },
    );
  }
}
