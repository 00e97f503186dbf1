import { type ByteSource, DetailFlowError } from '@detailflow/core';
import { Inflate } from 'fflate';
import type { ZipEntry } from './zip';

/** Packed bytes that are unpacked at once: at most a thousand times as many come out. */
const CHUNK = 2 ** 15;

/**
 * A deflated member of a zip file, read mostly from front to back: what lies before the bytes asked for is unpacked and
 * dropped, and a step back starts anew. Holds no more than what one chunk unpacks to.
 */
export class InflatedStream {
  readonly #source: ByteSource;
  readonly #entry: ZipEntry;
  #inflate: Inflate | undefined;
  /** Packed bytes that were read. */
  #consumed = 0;
  /** What has been unpacked and not yet passed, where it begins and where it ends. */
  #unpacked: Uint8Array[] = [];
  #position = 0;
  #end = 0;
  /** Reads wait for each other. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(source: ByteSource, entry: ZipEntry) {
    this.#source = source;
    this.#entry = entry;
  }

  /** @throws DetailFlowError `format` when the data are broken or end early; what the source throws */
  read(offset: number, length: number): Promise<Uint8Array> {
    const result = this.#last.then(() => this.#read(offset, length));
    this.#last = result.catch(() => {});
    return result;
  }

  async #read(offset: number, length: number): Promise<Uint8Array> {
    if (!this.#inflate || offset < this.#position) this.#restart();
    const out = new Uint8Array(length);
    for (let done = 0; done < length; ) {
      const [part] = this.#unpacked;
      if (!part) {
        await this.#unpack();
        continue;
      }
      const from = offset + done - this.#position;
      const wanted = part.subarray(from, from + length - done);
      out.set(wanted, done);
      done += wanted.length;
      if (from + wanted.length < part.length) break; // the rest is for the next read
      this.#unpacked.shift();
      this.#position += part.length;
    }
    if (offset + length === this.#entry.size) await this.#expectEnd();
    return out;
  }

  /** Nothing may come after the size that the file states. */
  async #expectEnd(): Promise<void> {
    while (this.#consumed < this.#entry.packedSize) await this.#unpack();
  }

  async #unpack(): Promise<void> {
    const { offset, packedSize, size } = this.#entry;
    const count = Math.min(CHUNK, packedSize - this.#consumed);
    if (count === 0) throw this.#broken(`holds fewer than the ${size} bytes that the file states`);
    const packed = await this.#source.read(offset + this.#consumed, count);
    this.#consumed += count;
    try {
      this.#inflate?.push(packed, this.#consumed === packedSize);
    } catch (cause) {
      this.#inflate = undefined;
      throw this.#broken(`cannot be unpacked (${(cause as Error).message})`);
    }
    if (this.#end > size) {
      this.#inflate = undefined;
      throw this.#broken(`holds more than the ${size} bytes that the file states`);
    }
  }

  #restart(): void {
    this.#consumed = 0;
    this.#position = 0;
    this.#end = 0;
    const unpacked: Uint8Array[] = [];
    this.#unpacked = unpacked;
    this.#inflate = new Inflate((part) => {
      if (part.length > 0) unpacked.push(part);
      if (unpacked === this.#unpacked) this.#end += part.length;
    });
  }

  #broken(reason: string): DetailFlowError {
    return new DetailFlowError('format', `the member ${reason}`, {
      file: this.#source.name,
      entry: this.#entry.name,
    });
  }
}
