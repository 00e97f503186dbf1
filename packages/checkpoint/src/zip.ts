import { type ByteSource, checkOptions, DetailFlowError } from '@detailflow/core';
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
}

const [STORED, DEFLATED] = [0, 8]; // methods of compression
const maxEntries = 100_000;
const maxDirectoryBytes = 64 * 2 ** 20;
const endBytes = 22;
const locatorBytes = 20;
const end64Bytes = 56;
const localBytes = 30;
const localHeadersAtOnce = 32;

/**
 * Finds the members of a zip file as torch.save and NumPy write it (zip64 included).
 * It trusts the end record and the central directory, and checks every local header against them.
 *
 * Refused are compression (but for Deflate, when asked for), encryption, several disks, a comment or other bytes at the end, duplicate or unsafe
 * names, members that overlap or leave the file, and more than 100 000 members. Checksums are not verified.
 * @param options.deflated also finds members that are compressed with Deflate
 * @throws DetailFlowError `format`, `limit`, `io`
 */
export async function readZip(
  source: ByteSource,
  options: { readonly deflated?: boolean } = {},
): Promise<ReadonlyMap<string, ZipEntry>> {
  checkOptions('readZip', options, { deflated: true });
  const zip = new ZipReader(source, options.deflated === true);
  const directory = await zip.findDirectory();
  const members = await zip.readDirectory(directory);
  return zip.locate(members, directory.offset);
}

interface Directory {
  readonly offset: number;
  readonly size: number;
  readonly entries: number;
}

interface Member {
  readonly name: string;
  readonly nameBytes: Uint8Array;
  readonly flags: number;
  readonly method: number;
  readonly packed: number;
  readonly size: number;
  readonly headerOffset: number;
}

class ZipReader {
  constructor(
    private readonly source: ByteSource,
    private readonly takesDeflated: boolean,
  ) {}

  async findDirectory(): Promise<Directory> {
    const { source } = this;
    if (source.size < endBytes) throw this.fail('it is too short');
    const tailBytes = Math.min(source.size, endBytes + locatorBytes);
    const tail = await this.view(source.size - tailBytes, tailBytes);
    const at = tailBytes - endBytes;
    if (tail.getUint32(at, true) !== 0x06054b50) {
      throw this.fail('it does not end in a zip end record; it was cut off, or something was appended');
    }
    if (tail.getUint16(at + 20, true) !== 0) throw this.fail('its end record claims a comment');
    const narrow = {
      entries: tail.getUint16(at + 10, true),
      size: tail.getUint32(at + 12, true),
      offset: tail.getUint32(at + 16, true),
    };
    const disks = [tail.getUint16(at + 4, true), tail.getUint16(at + 6, true)];
    if (disks.some((disk) => disk !== 0 && disk !== 0xffff)) throw this.fail('it is one of several disks');
    const onDisk = tail.getUint16(at + 8, true);
    if (onDisk !== narrow.entries) throw this.fail('it is one of several disks');

    let found: Directory = narrow;
    let limit = source.size - endBytes;
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
    if (found.offset + found.size !== limit) {
      throw this.fail(
        `its directory (${found.offset}..${found.offset + found.size}) does not end at the end record (${limit})`,
      );
    }
    return found;
  }

  private async readEnd64(tail: DataView, at: number, locatorOffset: number) {
    if (tail.getUint32(at + 4, true) !== 0 || tail.getUint32(at + 16, true) > 1) {
      throw this.fail('it is one of several disks');
    }
    const recordOffset = this.uint64(tail, at + 8);
    if (recordOffset !== locatorOffset - end64Bytes) throw this.fail('its zip64 end record is misplaced');
    const record = await this.view(recordOffset, end64Bytes);
    if (record.getUint32(0, true) !== 0x06064b50 || this.uint64(record, 4) !== end64Bytes - 12) {
      throw this.fail('its zip64 end record is damaged');
    }
    const entries = this.uint64(record, 32);
    if (record.getUint32(16, true) !== 0 || record.getUint32(20, true) !== 0) {
      throw this.fail('it is one of several disks');
    }
    if (this.uint64(record, 24) !== entries) throw this.fail('it is one of several disks');
    return { entries, size: this.uint64(record, 40), offset: this.uint64(record, 48), recordOffset };
  }

  async readDirectory(directory: Directory): Promise<Member[]> {
    const view = await this.view(directory.offset, directory.size);
    const members: Member[] = [];
    const names = new Set<string>();
    let at = 0;
    for (let i = 0; i < directory.entries; i++) {
      if (at + 46 > directory.size || view.getUint32(at, true) !== 0x02014b50) {
        throw this.fail(`its directory is damaged at member ${i}`);
      }
      const nameLength = view.getUint16(at + 28, true);
      const extraLength = view.getUint16(at + 30, true);
      const next = at + 46 + nameLength + extraLength + view.getUint16(at + 32, true);
      if (next > directory.size) throw this.fail(`its directory is damaged at member ${i}`);
      const nameBytes = new Uint8Array(view.buffer, view.byteOffset + at + 46, nameLength);
      const name = this.name(nameBytes, i);
      if (names.has(name)) throw this.fail('two members have this name', name);
      names.add(name);

      const flags = view.getUint16(at + 8, true);
      if (flags & 0x2041) throw this.fail('it is encrypted; save it without encryption', name);
      const method = view.getUint16(at + 10, true);
      if (method !== STORED && !(this.takesDeflated && method === DEFLATED)) {
        throw this.fail(
          this.takesDeflated
            ? `it is compressed by method ${method}; stored and deflated members can be read`
            : 'it is compressed; torch.save stores members as they are, so save the file again',
          name,
        );
      }
      if (![0, 0xffff].includes(view.getUint16(at + 34, true)))
        throw this.fail('it lies on another disk', name);
      const extra = { view, at: at + 46 + nameLength, length: extraLength };
      const [size, packed, headerOffset] = this.widen(
        [view.getUint32(at + 24, true), view.getUint32(at + 20, true), view.getUint32(at + 42, true)],
        extra,
        name,
      );
      if (method === STORED && size !== packed) {
        throw this.fail('it is stored, but its two sizes differ', name);
      }
      members.push({ name, nameBytes, flags, method, packed, size, headerOffset });
      at = next;
    }
    if (at !== directory.size) throw this.fail(`its directory holds more than ${directory.entries} members`);
    return members;
  }

  /** Reads the local headers, and checks that each member ends before the next one begins. */
  async locate(members: readonly Member[], directoryOffset: number): Promise<Map<string, ZipEntry>> {
    const byOffset = [...members].sort((a, b) => a.headerOffset - b.headerOffset);
    const limits = new Map(
      byOffset.map((member, i) => [member, byOffset[i + 1]?.headerOffset ?? directoryOffset] as const),
    );
    const entries = new Map<string, ZipEntry>();
    for (let i = 0; i < members.length; i += localHeadersAtOnce) {
      const batch = members.slice(i, i + localHeadersAtOnce);
      const located = await Promise.all(
        batch.map((member) => this.locateOne(member, limits.get(member) as number)),
      );
      for (const entry of located) entries.set(entry.name, entry);
    }
    return entries;
  }

  private async locateOne(member: Member, limit: number): Promise<ZipEntry> {
    const { name, nameBytes, headerOffset, size, packed, method } = member;
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
    return { name, offset, size, packedSize: packed, isDeflated: method === DEFLATED };
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

  private name(bytes: Uint8Array, index: number): string {
    let name: string;
    try {
      name = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch (cause) {
      throw this.fail(`the name of member ${index} is not UTF-8`, undefined, cause);
    }
    const reason = unsafePath(name);
    if (reason !== undefined)
      throw this.fail(`the name of a member is unsafe: ${reason}`, JSON.stringify(name));
    return name;
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

  private fail(reason: string, entry?: string, cause?: unknown): DetailFlowError {
    return new DetailFlowError('format', `not a readable zip file: ${reason}`, {
      file: this.source.name,
      entry,
      cause,
    });
  }

  private tooLarge(what: string, most: string): DetailFlowError {
    return new DetailFlowError('limit', `the zip file has ${what}; at most ${most} are read`, {
      file: this.source.name,
    });
  }
}
