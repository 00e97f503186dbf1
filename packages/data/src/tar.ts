import { type ByteSource, DetailFlowError } from '@detailflow/core';

/** A file in a tar archive: its bytes are [offset, offset + size) of the archive. */
export interface TarEntry {
  readonly path: string;
  readonly offset: number;
  readonly size: number;
}

/** What is in a tar archive. */
export interface TarIndex {
  readonly entries: readonly TarEntry[];
  /** Members that are no files to read: links, devices, and names that lead out of a folder, with the reason. */
  readonly refused: readonly { readonly path: string; readonly reason: string }[];
}

const BLOCK = 512;
const MOST_ENTRIES = 10_000_000;
/** Longest record of names or extended headers. */
const MOST_NAME_BYTES = 1 << 20;

/**
 * Finds the files of a tar archive (ustar, with the extended headers of pax and GNU) by reading headers alone, so that every file can be
 * read where it lies. Archives are not unpacked.
 * @throws DetailFlowError `format` for what is no tar, is compressed or is cut off; `limit`; `io`
 */
export async function indexTar(source: ByteSource): Promise<TarIndex> {
  const entries = new Map<string, TarEntry>();
  const refused: { path: string; reason: string }[] = [];
  const fail = (reason: string, code: 'format' | 'limit' = 'format') =>
    new DetailFlowError(code, reason, { file: source.name });
  let common: Extended = {};
  let next: Extended = {};
  let at = 0;
  while (at + BLOCK <= source.size) {
    const header = await source.read(at, BLOCK);
    if (header.every((byte) => byte === 0)) break;
    if (!isHeader(header))
      throw fail(at === 0 ? notTar(header) : `is damaged at byte ${at}: no header of a file is there`);
    const { common: all, next: own } = { common, next };
    const size = own.size ?? all.size ?? numberAt(header, 124, 12);
    const type = String.fromCharCode(header[156]);
    const start = at + BLOCK;
    const end = start + Math.ceil(size / BLOCK) * BLOCK;
    if (!Number.isSafeInteger(size) || size < 0 || end > source.size) {
      throw fail(`is cut off: a member at byte ${at} ends after the ${source.size} bytes of the archive`);
    }
    at = end;
    if (['x', 'g', 'L', 'K'].includes(type)) {
      if (size > MOST_NAME_BYTES)
        throw fail(`has a name of ${size} bytes; at most ${MOST_NAME_BYTES} are read`, 'limit');
      const data = await source.read(start, size);
      if (type === 'g') common = { ...common, ...paxRecords(data, fail) };
      if (type === 'x') next = { ...next, ...paxRecords(data, fail) };
      if (type === 'L') next = { ...next, path: textOf(data) };
      continue;
    }
    const path = own.path ?? all.path ?? nameOf(header);
    next = {};
    if (type === '5') continue;
    const isFile = ['0', '\0', '7'].includes(type) && !own.isSparse;
    const reason = isFile ? unsafeName(path) : (kinds[type] ?? 'a member of a kind that is not read');
    if (reason !== undefined) {
      refused.push({ path, reason });
      continue;
    }
    const plain = plainName(path);
    if (entries.delete(plain))
      refused.push({ path, reason: 'a member that a later one of its name replaces' });
    entries.set(plain, { path: plain, offset: start, size });
    if (entries.size > MOST_ENTRIES) throw fail(`has more than ${MOST_ENTRIES} files`, 'limit');
  }
  const rest = source.size - at;
  if (rest > 0 && rest < BLOCK) throw fail(`is cut off: its last ${rest} bytes are part of a header`);
  if (entries.size === 0 && refused.length === 0) throw fail('holds no files');
  return { entries: [...entries.values()], refused };
}

/** Without the parts that lead nowhere: as unpacking would lay it. */
const plainName = (path: string): string =>
  path
    .split('/')
    .filter((part) => part !== '' && part !== '.')
    .join('/');

const kinds: Readonly<Record<string, string>> = {
  1: 'a link to another member',
  2: 'a link to another member',
  3: 'a device',
  4: 'a device',
  6: 'a pipe',
};

interface Extended {
  readonly path?: string;
  readonly size?: number;
  /** Holes are left out of the bytes. */
  readonly isSparse?: boolean;
}

/** Why a name is not used; undefined for a plain one. */
function unsafeName(path: string): string | undefined {
  if (plainName(path) === '' || /[\p{Cc}\p{Bidi_Control}]/u.test(path)) return 'a name that is none';
  if (path.startsWith('/') || path.includes('\\') || /^[A-Za-z]:/.test(path))
    return 'a name that leads out of the archive';
  return path.split('/').includes('..') ? 'a name that leads out of the archive' : undefined;
}

/** The checksum of a header: the sum of its bytes, those of the checksum taken for spaces. */
function isHeader(header: Uint8Array): boolean {
  const stated = numberAt(header, 148, 8);
  let sum = 8 * 32;
  for (const [i, byte] of header.entries()) if (i < 148 || i >= 156) sum += byte;
  return stated === sum;
}

/** An octal number, or one of base 256 where its first bit is set. */
function numberAt(header: Uint8Array, start: number, length: number): number {
  const field = header.subarray(start, start + length);
  if (field[0] & 0x80) {
    return field.subarray(1).reduce((sum, byte) => sum * 256 + byte, field[0] & 0x7f);
  }
  const text = textOf(field).trim();
  return /^[0-7]*$/.test(text) ? Number.parseInt(text || '0', 8) : Number.NaN;
}

function nameOf(header: Uint8Array): string {
  const name = textOf(header.subarray(0, 100));
  const isUstar = textOf(header.subarray(257, 262)) === 'ustar' && header[262] === 0;
  const prefix = isUstar ? textOf(header.subarray(345, 500)) : '';
  return prefix === '' ? name : `${prefix}/${name}`;
}

const decoder = new TextDecoder();

function textOf(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return decoder.decode(end < 0 ? bytes : bytes.subarray(0, end));
}

/** Records "length key=value\n" of a pax header. */
function paxRecords(bytes: Uint8Array, fail: (reason: string) => DetailFlowError): Extended {
  const found: { path?: string; size?: number; isSparse?: boolean } = {};
  for (let at = 0; at < bytes.length && bytes[at] !== 0; ) {
    const space = bytes.indexOf(32, at);
    const length = space < 0 ? Number.NaN : Number(decoder.decode(bytes.subarray(at, space)));
    if (!Number.isInteger(length) || length <= space - at + 2 || at + length > bytes.length) {
      throw fail('has an extended header that is none');
    }
    const record = decoder.decode(bytes.subarray(space + 1, at + length - 1));
    const equals = record.indexOf('=');
    const [key, value] = [record.slice(0, equals), record.slice(equals + 1)];
    if (key === 'path') found.path = value;
    if (key === 'size') found.size = Number(value);
    if (key.startsWith('GNU.sparse.')) found.isSparse = true;
    at += length;
  }
  return found;
}

function notTar(header: Uint8Array): string {
  if (header[0] === 0x1f && header[1] === 0x8b)
    return 'is compressed (gzip): unpack it to a .tar first, so that images can be read at random';
  if (header[0] === 0x28 && header[1] === 0xb5)
    return 'is compressed (zstd): unpack it to a .tar first, so that images can be read at random';
  return 'is no tar archive';
}
