import { crc32, unsafePath } from '@detailflow/checkpoint';
import { DetailFlowError, fileLimits } from '@detailflow/core';
import { type NpyContents, writeNpy } from './npy';
import { dtypes, type NpyDType } from './npy-dtype';
import { npyHeader, readNpyHeader } from './npy-header';

/** Names are UTF-8; sizes and checksum follow the data. */
const FLAGS = 0x808;
/** Bytes before the data of a member, besides its name. */
const LOCAL_BYTES = 30 + 20;
/** Bytes of a member in the directory, besides its name. */
const ENTRY_BYTES = 46 + 28;

interface Member {
  readonly name: Uint8Array;
  readonly offset: number;
  size: number;
  crc: number;
}

/**
 * Lays out a .npz file of any size, part by part: write what every method returns, one after the other. Members are
 * stored as they are, with sizes of 64 bits, as NumPy's `savez` writes them.
 */
export class NpzWriter {
  readonly #members: Member[] = [];
  readonly #names = new Set<string>();
  /** Bytes of the directory so far. */
  #directory = 0;
  #open: Member | undefined;
  #expected = 0;
  #size = 0;

  /**
   * Begins an array; its values follow by {@link data}.
   * @param name without .npy
   * @throws DetailFlowError `invalid-argument` for a name twice, or when the array before lacks values; whatever
   *   `openNpz` would not read: `invalid-argument` for a name that is no path inside an archive, `limit` for more arrays
   *   or axes, or a longer name
   */
  array(name: string, dtype: NpyDType, shape: readonly number[]): Uint8Array {
    const end = this.#close();
    const encoded = new TextEncoder().encode(`${name}.npy`);
    const known = new TextDecoder().decode(encoded);
    if (this.#names.has(known)) {
      throw new DetailFlowError('invalid-argument', `there is an array "${name}" already`);
    }
    const reason = unsafePath(`${name}.npy`);
    if (reason !== undefined) {
      throw new DetailFlowError(
        'invalid-argument',
        `an array cannot be named ${JSON.stringify(name)}: ${reason}`,
      );
    }
    const { members, nameBytes, directoryBytes } = fileLimits.zip;
    this.#directory += ENTRY_BYTES + encoded.length;
    if (encoded.length > nameBytes || this.#names.size >= members || this.#directory > directoryBytes) {
      throw new DetailFlowError(
        'limit',
        `a .npz file holds at most ${members} arrays, with names of ${nameBytes} bytes and ${directoryBytes} bytes together`,
      );
    }
    const header = npyHeader(dtype, shape);
    const local = new Uint8Array(LOCAL_BYTES + encoded.length);
    const view = new DataView(local.buffer);
    view.setUint32(0, 0x04034b50, true);
    view.setUint16(4, 45, true); // zip64
    view.setUint16(6, FLAGS, true);
    view.setUint32(18, 0xffffffff, true);
    view.setUint32(22, 0xffffffff, true);
    view.setUint16(26, encoded.length, true);
    view.setUint16(28, 20, true);
    local.set(encoded, 30);
    view.setUint16(30 + encoded.length, 1, true);
    view.setUint16(32 + encoded.length, 16, true);
    this.#names.add(known);
    this.#open = { name: encoded, offset: this.#size + end.length, size: 0, crc: 0 };
    this.#expected = header.length + shape.reduce((product, extent) => product * extent, dtypes[dtype].bytes);
    this.#size += end.length + local.length;
    return joined([end, local, this.data(header)]);
  }

  /** Values of the array that was begun last, in C order. */
  data(bytes: Uint8Array): Uint8Array {
    const member = this.#open;
    if (!member || member.size + bytes.length > this.#expected) {
      throw new DetailFlowError('invalid-argument', 'these are more values than the shape has');
    }
    member.crc = crc32(bytes, member.crc);
    member.size += bytes.length;
    this.#size += bytes.length;
    return bytes;
  }

  /** The end of the file. @throws DetailFlowError `invalid-argument` when an array lacks values */
  finish(): Uint8Array {
    const parts = [this.#close()];
    const start = this.#size + parts[0].length;
    for (const { name, offset, size, crc } of this.#members) {
      const entry = new Uint8Array(ENTRY_BYTES + name.length);
      const view = new DataView(entry.buffer);
      view.setUint32(0, 0x02014b50, true);
      view.setUint16(4, 45, true);
      view.setUint16(6, 45, true);
      view.setUint16(8, FLAGS, true);
      view.setUint32(16, crc, true);
      view.setUint32(20, 0xffffffff, true);
      view.setUint32(24, 0xffffffff, true);
      view.setUint16(28, name.length, true);
      view.setUint16(30, 28, true);
      view.setUint32(42, 0xffffffff, true);
      entry.set(name, 46);
      const extra = 46 + name.length;
      view.setUint16(extra, 1, true);
      view.setUint16(extra + 2, 24, true);
      for (const [i, value] of [size, size, offset].entries()) {
        view.setBigUint64(extra + 4 + 8 * i, BigInt(value), true);
      }
      parts.push(entry);
    }
    const directory = parts.slice(1).reduce((sum, { length }) => sum + length, 0);
    const end = new Uint8Array(56 + 20 + 22);
    const view = new DataView(end.buffer);
    view.setUint32(0, 0x06064b50, true);
    view.setBigUint64(4, 44n, true);
    view.setUint16(12, 45, true);
    view.setUint16(14, 45, true);
    const count = BigInt(this.#members.length);
    view.setBigUint64(24, count, true);
    view.setBigUint64(32, count, true);
    view.setBigUint64(40, BigInt(directory), true);
    view.setBigUint64(48, BigInt(start), true);
    view.setUint32(56, 0x07064b50, true);
    view.setBigUint64(64, BigInt(start + directory), true);
    view.setUint32(72, 1, true);
    view.setUint32(76, 0x06054b50, true);
    view.setUint16(84, 0xffff, true);
    view.setUint16(86, 0xffff, true);
    view.setUint32(88, 0xffffffff, true);
    view.setUint32(92, 0xffffffff, true);
    return joined([...parts, end]);
  }

  /** What follows the data of the open member: its checksum and sizes. */
  #close(): Uint8Array {
    const member = this.#open;
    if (!member) return new Uint8Array(0);
    if (member.size !== this.#expected) {
      throw new DetailFlowError(
        'invalid-argument',
        `the array has ${this.#expected - member.size} bytes less than its shape says`,
      );
    }
    this.#open = undefined;
    this.#members.push(member);
    const descriptor = new Uint8Array(24);
    const view = new DataView(descriptor.buffer);
    view.setUint32(0, 0x08074b50, true);
    view.setUint32(4, member.crc, true);
    view.setBigUint64(8, BigInt(member.size), true);
    view.setBigUint64(16, BigInt(member.size), true);
    return descriptor;
  }
}

/** A .npz file of arrays by name, in memory. @throws DetailFlowError as `writeNpy` */
export function writeNpz(arrays: Readonly<Record<string, NpyContents>>): Uint8Array {
  const writer = new NpzWriter();
  const parts = Object.entries(arrays).flatMap(([name, array]) => {
    const bytes = writeNpy(array); // checks shape and data
    const { dtype, shape, end } = readNpyHeader(bytes, bytes.length);
    return [writer.array(name, dtype, shape), writer.data(bytes.subarray(end))];
  });
  return joined([...parts, writer.finish()]);
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
