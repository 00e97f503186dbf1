import { type ByteSource, DetailFlowError, fileLimits } from '@detailflow/core';
import { unsafePath } from './paths';

/** A member of a zip file: its bytes are [offset, offset + packedSize) of the file. */
export interface ZipEntry {
  readonly name: string;
  readonly offset: number;
  /** Bytes in the file; as many as `size` when the member is stored as it is. */
  readonly packedSize: number;
  /** Bytes once unpacked, as the file states it. */
  readonly size: number;
  readonly isDeflated: boolean;
  /** As the file states it; undefined where it states none. */
  readonly crc32?: number;
  /** Why this member cannot be read. */
  readonly fault?: DetailFlowError;
}

const [STORED, DEFLATED] = [0, 8]; // methods of compression
const { members: maxEntries, directoryBytes: maxDirectoryBytes } = fileLimits.zip;
const endBytes = 22;
const maxCommentBytes = 65_535;
const locatorBytes = 20;
const end64Bytes = 56;
const localBytes = 30;
const localHeadersAtOnce = 32;

/**
 * Finds the members of a zip file, stored or deflated, zip64 included. As with Python's zipfile, bytes may lie before the
 * archive, and a comment or something else (up to 64 kB) behind it; folders are left out.
 *
 * The end record and the central directory must be sound, and no name may lead out of a folder. A member that is not
 * sound (encrypted or compressed otherwise, overlapping, outside the file, with a name that occurs twice, with a local
 * header that says something else) has a `fault`, which is thrown when it is opened, so that the others can be read. Use
 * {@link openMember}.
 * @throws DetailFlowError `format`, `limit` (`fileLimits.zip`), `io`
 */
export async function readZip(source: ByteSource): Promise<ReadonlyMap<string, ZipEntry>> {
  const zip = new ZipReader(source);
  const directory = await zip.findDirectory();
  const members = await zip.readDirectory(directory);
  return zip.locate(members, directory.start);
}

interface EndRecord {
  readonly offset: number;
  readonly size: number;
  readonly entries: number;
}

interface Directory {
  /** Where it begins in the file. */
  readonly start: number;
  readonly size: number;
  readonly entries: number;
  /** Bytes before the archive: stated offsets count from behind them. */
  readonly before: number;
}

interface Member {
  readonly name: string;
  readonly nameBytes: Uint8Array;
  readonly flags: number;
  readonly method: number;
  readonly packed: number;
  readonly size: number;
  readonly crc32: number;
  /** Where its local header begins in the file. */
  readonly headerOffset?: number;
  readonly fault?: DetailFlowError;
}

class ZipReader {
  constructor(private readonly source: ByteSource) {}

  async findDirectory(): Promise<Directory> {
    const { source } = this;
    if (source.size < endBytes) throw this.fail('it is too short');
    const { tail, at } = await this.tail();
    const endOffset = source.size - tail.byteLength + at;
    const narrow = {
      entries: tail.getUint16(at + 10, true),
      size: tail.getUint32(at + 12, true),
      offset: tail.getUint32(at + 16, true),
    };
    const disks = [tail.getUint16(at + 4, true), tail.getUint16(at + 6, true)];
    if (disks.some((disk) => disk !== 0 && disk !== 0xffff)) throw this.fail('it is one of several disks');
    const onDisk = tail.getUint16(at + 8, true);
    if (onDisk !== narrow.entries) throw this.fail('it is one of several disks');

    let found: EndRecord = narrow;
    let limit = endOffset;
    const wide = at >= locatorBytes && tail.getUint32(at - locatorBytes, true) === 0x07064b50;
    if (wide) {
      const record = await this.readEnd64(tail, at - locatorBytes, limit - locatorBytes);
      const fits = (short: number, full: number, none: number) => short === none || short === full;
      if (
        !fits(narrow.entries, record.entries, 0xffff) ||
        !fits(narrow.size, record.size, 0xffffffff) ||
        !fits(narrow.offset, record.offset, 0xffffffff)
      ) {
        throw this.fail('its two end records contradict each other');
      }
      found = record;
      limit = record.recordOffset;
    } else if (narrow.entries === 0xffff || narrow.size === 0xffffffff || narrow.offset === 0xffffffff) {
      throw this.fail('its zip64 end record is missing');
    }
    if (found.entries > maxEntries) throw this.tooLarge(`${found.entries} members`, `${maxEntries}`);
    if (found.size > maxDirectoryBytes) {
      throw this.tooLarge(`a directory of ${found.size} bytes`, `${maxDirectoryBytes}`);
    }
    const start = limit - found.size;
    const before = start - found.offset;
    if (before < 0) {
      throw this.fail(
        `its directory (${found.offset}..${found.offset + found.size}) does not end at the end record (${limit})`,
      );
    }
    return { start, size: found.size, entries: found.entries, before };
  }

  /** The end of the file, from the locator of a zip64 end record on, and where in it the end record begins. */
  private async tail(): Promise<{ tail: DataView; at: number }> {
    for (const commentBytes of [0, maxCommentBytes]) {
      const length = Math.min(this.source.size, locatorBytes + endBytes + commentBytes);
      const tail = await this.view(this.source.size - length, length);
      const at = commentBytes === 0 ? endRecordAtLast(tail) : lastEndRecord(tail);
      if (at !== undefined) return { tail, at };
    }
    throw this.fail('it has no zip end record; it was cut off, or is no zip file');
  }

  private async readEnd64(tail: DataView, at: number, locatorOffset: number) {
    if (tail.getUint32(at + 4, true) !== 0 || tail.getUint32(at + 16, true) > 1) {
      throw this.fail('it is one of several disks');
    }
    const recordOffset = this.uint64(tail, at + 8);
    const place = locatorOffset - end64Bytes;
    if (recordOffset > place || place < 0) throw this.fail('its zip64 end record is misplaced');
    const record = await this.view(place, end64Bytes);
    if (record.getUint32(0, true) !== 0x06064b50 || this.uint64(record, 4) !== end64Bytes - 12) {
      throw this.fail('its zip64 end record is damaged');
    }
    const entries = this.uint64(record, 32);
    if (record.getUint32(16, true) !== 0 || record.getUint32(20, true) !== 0) {
      throw this.fail('it is one of several disks');
    }
    if (this.uint64(record, 24) !== entries) throw this.fail('it is one of several disks');
    return { entries, size: this.uint64(record, 40), offset: this.uint64(record, 48), recordOffset: place };
  }

  async readDirectory(directory: Directory): Promise<Member[]> {
    const view = await this.view(directory.start, directory.size);
    const members: Member[] = [];
    let at = 0;
    for (let i = 0; i < directory.entries; i++) {
      if (at + 46 > directory.size || view.getUint32(at, true) !== 0x02014b50) {
        throw this.fail(`its directory is damaged at member ${i}`);
      }
      const nameLength = view.getUint16(at + 28, true);
      const extraLength = view.getUint16(at + 30, true);
      const next = at + 46 + nameLength + extraLength + view.getUint16(at + 32, true);
      if (next > directory.size) throw this.fail(`its directory is damaged at member ${i}`);
      members.push(this.member(view, at, directory.before));
      at = next;
    }
    if (at !== directory.size) throw this.fail(`its directory holds more than ${directory.entries} members`);
    return members;
  }

  private member(view: DataView, at: number, before: number): Member {
    const nameLength = view.getUint16(at + 28, true);
    const nameBytes = new Uint8Array(view.buffer, view.byteOffset + at + 46, nameLength);
    const { name, isUtf8 } = readName(nameBytes);
    const unsafe = name.endsWith('/') ? undefined : unsafePath(name);
    if (unsafe) throw this.fail(`the name of a member is unsafe: ${unsafe}`, JSON.stringify(name));
    const flags = view.getUint16(at + 8, true);
    const method = view.getUint16(at + 10, true);
    const found = { name, nameBytes, flags, method, crc32: view.getUint32(at + 16, true) };
    const extra = { view, at: at + 46 + nameLength, length: view.getUint16(at + 30, true) };
    try {
      const [size, packed, headerOffset] = this.widen(
        [view.getUint32(at + 24, true), view.getUint32(at + 20, true), view.getUint32(at + 42, true)],
        extra,
        name,
      );
      const reason = isUtf8 ? undefined : 'the name of a member is not UTF-8';
      const fault = reason ?? memberFault(flags, method, view.getUint16(at + 34, true), size !== packed);
      return {
        ...found,
        size,
        packed,
        headerOffset: headerOffset + before,
        fault: fault === undefined ? undefined : this.fail(fault, name),
      };
    } catch (error) {
      return { ...found, size: 0, packed: 0, fault: this.asFault(error) };
    }
  }

  /** Reads the local headers, and checks that each member ends before the next one begins. */
  async locate(members: readonly Member[], directoryOffset: number): Promise<Map<string, ZipEntry>> {
    const starts = members.flatMap(({ headerOffset }) => headerOffset ?? []).sort((a, b) => a - b);
    const limits = new Map(
      starts.map((start, i) => [start, Math.min(starts[i + 1] ?? directoryOffset, directoryOffset)] as const),
    );
    const files = members.filter(({ name }) => !name.endsWith('/'));
    const entries = new Map<string, ZipEntry>();
    for (let i = 0; i < files.length; i += localHeadersAtOnce) {
      const batch = files.slice(i, i + localHeadersAtOnce);
      const located = await Promise.all(batch.map((member) => this.locateOrFault(member, limits)));
      for (const entry of located) {
        const isTwice = entries.has(entry.name);
        const fault = isTwice ? this.fail('two members have this name', entry.name) : entry.fault;
        entries.set(entry.name, { ...entry, fault });
      }
    }
    return entries;
  }

  private async locateOrFault(member: Member, limits: ReadonlyMap<number, number>): Promise<ZipEntry> {
    const { name, packed, size, crc32, method, headerOffset } = member;
    const unlocated = { name, offset: 0, packedSize: packed, size, crc32, isDeflated: method === DEFLATED };
    if (member.fault || headerOffset === undefined) return { ...unlocated, fault: member.fault };
    try {
      const limit = limits.get(headerOffset) ?? headerOffset;
      return { ...unlocated, offset: await this.locateOne(member, headerOffset, limit) };
    } catch (error) {
      return { ...unlocated, fault: this.asFault(error) };
    }
  }

  /** Where the bytes of a member begin. */
  private async locateOne(member: Member, headerOffset: number, limit: number): Promise<number> {
    const { name, nameBytes, size, packed, method } = member;
    const headerEnd = headerOffset + localBytes + nameBytes.length;
    if (headerEnd > limit) throw this.fail('it overlaps its neighbour or leaves the file', name);
    const view = await this.view(headerOffset, localBytes + nameBytes.length);
    if (view.getUint32(0, true) !== 0x04034b50)
      throw this.fail('there is no member where its header should be', name);
    const stated = new Uint8Array(view.buffer, view.byteOffset + localBytes, nameBytes.length);
    if (view.getUint16(26, true) !== nameBytes.length || stated.some((byte, i) => byte !== nameBytes[i])) {
      throw this.fail('its local header has another name', name);
    }
    const extraLength = view.getUint16(28, true);
    const offset = headerEnd + extraLength;
    if (offset + packed > limit) throw this.fail('it overlaps its neighbour or leaves the file', name);
    const flags = view.getUint16(6, true);
    if (flags !== member.flags || view.getUint16(8, true) !== method) {
      throw this.fail('its local header contradicts the directory (compression or flags)', name);
    }
    const sizes = [view.getUint32(22, true), view.getUint32(18, true)];
    const extra = sizes.includes(0xffffffff)
      ? { view: await this.view(headerEnd, extraLength), at: 0, length: extraLength }
      : { view, at: 0, length: 0 };
    const deferred = (flags & 8) !== 0;
    for (const [i, local] of this.widen(sizes, extra, name).entries()) {
      const stated = i === 0 ? size : packed;
      if (local !== stated && !(deferred && local === 0)) {
        throw this.fail(`its local header says ${local} bytes, the directory ${stated}`, name);
      }
    }
    return offset;
  }

  /** Replaces each 0xFFFFFFFF by the next number of the zip64 extra field. */
  private widen(
    values: number[],
    extra: { view: DataView; at: number; length: number },
    name: string,
  ): number[] {
    if (!values.includes(0xffffffff)) return values;
    const end = extra.at + extra.length;
    for (let at = extra.at; at + 4 <= end; ) {
      const length = extra.view.getUint16(at + 2, true);
      if (at + 4 + length > end) break;
      if (extra.view.getUint16(at, true) === 1) {
        let field = at + 4;
        return values.map((value) => {
          if (value !== 0xffffffff) return value;
          if (field + 8 > at + 4 + length) throw this.fail('its zip64 field is too short', name);
          field += 8;
          return this.uint64(extra.view, field - 8);
        });
      }
      at += 4 + length;
    }
    throw this.fail('its zip64 field is missing', name);
  }

  private uint64(view: DataView, at: number): number {
    const value = Number(view.getBigUint64(at, true));
    if (!Number.isSafeInteger(value)) throw this.fail(`it states an impossible number (${value})`);
    return value;
  }

  private async view(offset: number, length: number): Promise<DataView> {
    if (offset + length > this.source.size) throw this.fail('its records point outside the file');
    const bytes = await this.source.read(offset, length);
    return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** What is wrong with one member only; failures of the source are thrown on. */
  private asFault(error: unknown): DetailFlowError {
    if (DetailFlowError.isInstance(error) && error.code === 'format') return error;
    throw error;
  }

  private fail(reason: string, entry?: string): DetailFlowError {
    return new DetailFlowError('format', `not a readable zip file: ${reason}`, {
      file: this.source.name,
      entry,
    });
  }

  private tooLarge(what: string, most: string): DetailFlowError {
    return new DetailFlowError('limit', `the zip file has ${what}; at most ${most} are read`, {
      file: this.source.name,
    });
  }
}

const endSignature = 0x06054b50;

/** Where the end record begins if it is the last thing in the file and has no comment. */
function endRecordAtLast(tail: DataView): number | undefined {
  const at = tail.byteLength - endBytes;
  return tail.getUint32(at, true) === endSignature && tail.getUint16(at + 20, true) === 0 ? at : undefined;
}

/** Otherwise it is the last place that looks like one, as Python's zipfile has it. */
function lastEndRecord(tail: DataView): number | undefined {
  for (let at = tail.byteLength - endBytes; at >= 0; at--) {
    if (tail.getUint32(at, true) === endSignature) return at;
  }
  return undefined;
}

function readName(bytes: Uint8Array): { name: string; isUtf8: boolean } {
  try {
    const name = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    return { name, isUtf8: true };
  } catch {
    return { name: new TextDecoder('latin1').decode(bytes), isUtf8: false };
  }
}

function memberFault(flags: number, method: number, disk: number, isPacked: boolean): string | undefined {
  if (flags & 0x2041) return 'it is encrypted; save it without encryption';
  if (method !== STORED && method !== DEFLATED) {
    return `it is compressed by method ${method}; stored and deflated members can be read`;
  }
  if (disk !== 0 && disk !== 0xffff) return 'it lies on another disk';
  return method === STORED && isPacked ? 'it is stored, but its two sizes differ' : undefined;
}
