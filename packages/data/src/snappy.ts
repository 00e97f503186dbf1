/** A place from which a Snappy stream can be unpacked: nothing behind it refers to what lies before it. */
export interface SnappyStart {
  readonly packed: number;
  readonly unpacked: number;
}

/** The most that a byte can unpack to: three bytes may stand for 64. */
const MOST_GROWTH = 22;
/** Places are at least so far apart, in unpacked bytes. Packers forget all they have seen after every 64 KiB. */
const SPACING = 1 << 14;

/**
 * Unpacks a Snappy stream (without frames, as Parquet has it).
 * @returns the bytes, and places in both from which parts can be unpacked alone, the first and the last byte among them
 * @throws RangeError when it is no such stream, or does not unpack to `length` bytes
 * @see https://github.com/google/snappy/blob/main/format_description.txt
 */
export function unpackSnappy(
  packed: Uint8Array,
  length: number,
): { readonly bytes: Uint8Array<ArrayBuffer>; readonly starts: readonly SnappyStart[] } {
  let [at, stated] = [0, 0];
  for (let more = true; more; at++) {
    if (at >= packed.length || at > 4) throw new RangeError('no length stands before the packed bytes');
    stated += (packed[at] & 127) * 128 ** at;
    more = packed[at] >= 128;
  }
  if (stated !== length) throw new RangeError(`${stated} packed bytes where ${length} are stated`);
  if (length > MOST_GROWTH * packed.length)
    throw new RangeError(`${packed.length} packed bytes cannot hold ${length}`);
  const bytes = new Uint8Array(length);
  const starts = [{ packed: at, unpacked: 0 }];
  unpackInto(bytes, packed, at, starts);
  return { bytes, starts: [...starts, { packed: packed.length, unpacked: length }] };
}

/**
 * Unpacks what lies between two places of a stream.
 * @throws RangeError when that are not `length` bytes
 */
export function unpackSnappyPart(packed: Uint8Array, length: number): Uint8Array<ArrayBuffer> {
  if (length > MOST_GROWTH * packed.length)
    throw new RangeError(`${packed.length} packed bytes cannot hold ${length}`);
  const bytes = new Uint8Array(length);
  unpackInto(bytes, packed, 0);
  return bytes;
}

/** Fills `bytes` from literals and copies, and keeps in `starts`, where given, the places that no copy reaches across. */
function unpackInto(bytes: Uint8Array, packed: Uint8Array, begin: number, starts?: SnappyStart[]): void {
  let end = 0;
  for (let at = begin; at < packed.length; ) {
    if (starts && end - starts[starts.length - 1].unpacked >= SPACING)
      starts.push({ packed: at, unpacked: end });
    const tag = packed[at++];
    const kind = tag & 3;
    let size = (tag >> 2) + 1;
    if (kind === 0) {
      const extra = Math.max(0, size - 60);
      if (extra > 0) size = littleEndian(packed, at, extra) + 1;
      at += extra;
      if (at + size > packed.length || end + size > bytes.length) throw damaged(at);
      if (size > 16) bytes.set(packed.subarray(at, at + size), end);
      else for (let i = 0; i < size; i++) bytes[end + i] = packed[at + i];
      at += size;
    } else {
      const extra = kind === 3 ? 4 : kind;
      let back = littleEndian(packed, at, extra);
      if (kind === 1) {
        size = ((tag >> 2) & 7) + 4;
        back += (tag >> 5) * 256;
      }
      at += extra;
      const from = end - back;
      if (back === 0 || from < 0 || end + size > bytes.length) throw damaged(at);
      for (let i = 0; i < size; i++) bytes[end + i] = bytes[from + i];
      while (starts && starts[starts.length - 1].unpacked > from) starts.pop();
    }
    end += size;
  }
  if (end !== bytes.length) throw new RangeError(`packed bytes end after ${end} of ${bytes.length}`);
}

function littleEndian(bytes: Uint8Array, at: number, count: number): number {
  if (at + count > bytes.length) throw damaged(at);
  let value = 0;
  for (let i = count - 1; i >= 0; i--) value = value * 256 + bytes[at + i];
  return value;
}

const damaged = (at: number) => new RangeError(`packed bytes are damaged at ${at}`);
