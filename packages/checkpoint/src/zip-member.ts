import { type ByteSource, checkRange, DetailFlowError, fileLimits } from '@detailflow/core';
import { crc32 } from './crc32';
import { InflatedStream } from './inflated-stream';
import type { ZipEntry } from './zip';

/** Bytes that are read at once when a whole member is checked. */
const CHUNK = 4 * 2 ** 20;

/**
 * Opens a member of a zip file for reading.
 * @throws DetailFlowError what is wrong with this member: `format`, or `limit` for one that claims to unpack to more
 *   than Deflate can make of its bytes
 */
export function openMember(source: ByteSource, entry: ZipEntry): ZipMember {
  if (entry.fault) throw entry.fault;
  if (entry.size > entry.packedSize * fileLimits.zip.inflation) {
    throw new DetailFlowError(
      'limit',
      `claims that ${entry.packedSize} bytes unpack to ${entry.size}; at most ${fileLimits.zip.inflation} come of one`,
      { file: source.name, entry: entry.name },
    );
  }
  return new ZipMember(source, entry);
}

/**
 * A member of a zip file. Its CRC-32 is checked as soon as every byte has been read, at once or in parts that follow one
 * another from the first; of a member that is read in other parts it is not.
 */
export class ZipMember {
  readonly #source: ByteSource;
  readonly #stream: InflatedStream | undefined;
  /** The bytes from the first to here have been summed up. */
  #reached = 0;
  #crc = 0;
  #isChecked = false;
  #fault: DetailFlowError | undefined;

  /** @internal Use {@link openMember}. */
  constructor(
    source: ByteSource,
    readonly entry: ZipEntry,
  ) {
    this.#source = source;
    if (entry.isDeflated) this.#stream = new InflatedStream(source, entry);
  }

  /** Bytes are found at once; of a compressed member (`false`) everything before them is unpacked first. */
  get isSeekable(): boolean {
    return !this.entry.isDeflated;
  }

  /**
   * Bytes offset .. offset + length - 1 of the unpacked member.
   * @throws DetailFlowError `format` when the member is damaged: what cannot be unpacked, another size than stated, and
   *   another checksum once all of it was read; `io`
   */
  async read(offset: number, length: number): Promise<Uint8Array> {
    if (this.#fault) throw this.#fault;
    const { name, size, offset: start } = this.entry;
    checkRange(`${this.#source.name}/${name}`, size, offset, length);
    const bytes = this.#stream
      ? await this.#stream.read(offset, length)
      : await this.#source.read(start + offset, length);
    this.#sumUp(offset, bytes);
    return bytes;
  }

  /** All of it, checked. */
  readAll(): Promise<Uint8Array> {
    return this.read(0, this.entry.size);
  }

  /**
   * Reads all of it without keeping it.
   * @returns whether there is a checksum
   * @throws DetailFlowError as {@link read}
   */
  async verify(signal?: AbortSignal): Promise<boolean> {
    const fresh = new ZipMember(this.#source, this.entry);
    const { size } = this.entry;
    for (let at = 0; at === 0 || at < size; at += CHUNK) {
      signal?.throwIfAborted();
      await fresh.read(at, Math.min(CHUNK, size - at));
    }
    return this.entry.crc32 !== undefined;
  }

  #sumUp(offset: number, bytes: Uint8Array): void {
    const end = offset + bytes.length;
    const { size, crc32: stated, name } = this.entry;
    if (this.#isChecked || stated === undefined || offset > this.#reached || end < this.#reached) return;
    this.#crc = crc32(bytes.subarray(this.#reached - offset), this.#crc);
    this.#reached = end;
    if (end < size) return;
    this.#isChecked = true;
    if (this.#crc === stated) return;
    const hex = (value: number) => value.toString(16).padStart(8, '0');
    this.#fault = new DetailFlowError(
      'format',
      `the member is damaged: its CRC-32 is ${hex(this.#crc)}, the zip file says ${hex(stated)}; get the file again`,
      { file: this.#source.name, entry: name },
    );
    throw this.#fault;
  }
}
