// Builds small files for tests, well-formed ones and, with overrides, hostile ones.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type ByteSource, bytesSource, DetailFlowError } from '@detailflow/core';
import { crc32 } from './crc32';

const root = new URL('../../../', import.meta.url);
export const goldenPath = (path: string) => fileURLToPath(new URL(`tests/fixtures/golden/${path}`, root));
export const golden = (path: string) => new Uint8Array(readFileSync(goldenPath(path)));
export const fashionPath = (path: string) =>
  fileURLToPath(new URL(`tests/fixtures/fashion-ref/${path}`, root));

/** The DetailFlowError that an action ends in; fails the test where it ends in anything else. */
export async function refusal(action: () => unknown): Promise<DetailFlowError> {
  let result: unknown;
  try {
    result = await action();
  } catch (error) {
    if (DetailFlowError.isInstance(error)) return error;
    throw new Error(`expected a DetailFlowError, got ${error instanceof Error ? error.stack : error}`);
  }
  throw new Error(`expected a DetailFlowError, got the result ${String(result)}`);
}

export function concat(...parts: (Uint8Array | readonly number[])[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

export const utf8 = (text: string) => new TextEncoder().encode(text);
const u16 = (value: number) => [value & 255, (value >> 8) & 255];
const u32 = (value: number) => [...u16(value & 0xffff), ...u16(value >>> 16)];
const u64 = (value: number) => [...u32(value % 2 ** 32), ...u32(Math.floor(value / 2 ** 32))];

export interface TestMember {
  name: string;
  data: Uint8Array | readonly number[];
  /** What the headers say in place of the truth. */
  method?: number;
  crc?: number;
  flags?: number;
  localName?: string;
  localFlags?: number;
  size?: number;
  packed?: number;
  localSize?: number;
  offset?: number;
  disk?: number;
  /** State sizes and offset in zip64 fields. */
  wide?: boolean;
  /** No zip64 field although the numbers refer to one. */
  withoutField?: boolean;
}

export interface ZipOverrides {
  wide?: boolean;
  count?: number;
  directoryOffset?: number;
  directorySize?: number;
  comment?: string;
  /** Bytes before the archive, which its offsets do not count. */
  before?: readonly number[];
  tail?: readonly number[];
  end64?: (record: Uint8Array) => void;
}

const none = 0xffffffff;

export function buildZip(members: readonly TestMember[], overrides: ZipOverrides = {}): Uint8Array {
  let file: Uint8Array = new Uint8Array(0);
  const directory: Uint8Array[] = [];
  for (const member of members) {
    const { data, wide, method = 0, flags = 0 } = member;
    const name = utf8(member.name);
    const localName = utf8(member.localName ?? member.name);
    const size = member.size ?? data.length;
    const packed = member.packed ?? (method === 0 ? size : data.length);
    const localSize = member.localSize ?? data.length;
    const localPacked = method === 0 ? localSize : data.length;
    const offset = member.offset ?? file.length;
    const localExtra = wide ? [...u16(1), ...u16(16), ...u64(localSize), ...u64(localPacked)] : [];
    const extra = wide
      ? [
          ...u16(0x4246),
          ...u16(2),
          90,
          90,
          ...u16(1),
          ...u16(24),
          ...u64(size),
          ...u64(packed),
          ...u64(offset),
        ]
      : [];
    if (member.withoutField) extra.length = 0;
    const fields = [...u16(method), ...u32(0), ...u32(member.crc ?? crc32(Uint8Array.from(data)))];
    file = concat(
      file,
      [...u32(0x04034b50), ...u16(20), ...u16(member.localFlags ?? flags), ...fields],
      wide ? [...u32(none), ...u32(none)] : [...u32(localPacked), ...u32(localSize)],
      [...u16(localName.length), ...u16(localExtra.length)],
      localName,
      localExtra,
      data,
    );
    directory.push(
      concat(
        [...u32(0x02014b50), ...u16(20), ...u16(20), ...u16(flags), ...fields],
        wide ? [...u32(none), ...u32(none)] : [...u32(packed), ...u32(size)],
        [
          ...u16(name.length),
          ...u16(extra.length),
          ...u16(0),
          ...u16(member.disk ?? 0),
          ...u16(0),
          ...u32(0),
        ],
        u32(wide ? none : offset),
        name,
        extra,
      ),
    );
  }
  const directoryOffset = overrides.directoryOffset ?? file.length;
  const directorySize = overrides.directorySize ?? directory.reduce((sum, part) => sum + part.length, 0);
  const count = overrides.count ?? members.length;
  file = concat(file, ...directory);
  if (overrides.wide) {
    const record = concat(
      [...u32(0x06064b50), ...u64(44), ...u16(45), ...u16(45), ...u32(0), ...u32(0)],
      [...u64(count), ...u64(count), ...u64(directorySize), ...u64(directoryOffset)],
    );
    overrides.end64?.(record);
    file = concat(file, record, [...u32(0x07064b50), ...u32(0), ...u64(file.length), ...u32(1)]);
  }
  const comment = utf8(overrides.comment ?? '');
  return concat(
    overrides.before ?? [],
    file,
    [...u32(0x06054b50), ...u16(0), ...u16(0)],
    overrides.wide
      ? [...u16(0xffff), ...u16(0xffff), ...u32(none), ...u32(none)]
      : [...u16(count), ...u16(count), ...u32(directorySize), ...u32(directoryOffset)],
    u16(comment.length),
    comment,
    overrides.tail ?? [],
  );
}

/** Opcodes of pickles, as byte lists to be joined. */
export const op = {
  text: (value: string) => [0x58, ...u32(utf8(value).length), ...utf8(value)],
  int: (value: number) =>
    value >= 0 && value < 256
      ? [0x4b, value]
      : Math.abs(value) < 2 ** 31
        ? [0x4a, ...u32(value >>> 0)]
        : op.long(value),
  long: (value: number) => {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigInt64(0, BigInt(value), true);
    return [0x8a, 8, ...bytes];
  },
  float: (value: number) => {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setFloat64(0, value);
    return [0x47, ...bytes];
  },
  global: (module: string, name: string) => [0x63, ...utf8(`${module}\n${name}\n`)],
  tuple: (...items: (readonly number[])[]) => [0x28, ...items.flat(), 0x74],
  list: (...items: (readonly number[])[]) => [0x5d, 0x28, ...items.flat(), 0x65],
  dict: (...items: (readonly number[])[]) => [0x7d, 0x28, ...items.flat(), 0x75],
  none: [0x4e],
  false: [0x89],
  reduce: [0x52],
  newobj: [0x81],
  build: [0x62],
  persid: [0x51],
  emptyTuple: [0x29],
};

export const pickle = (...parts: (readonly number[])[]) => Uint8Array.from([0x80, 2, ...parts.flat(), 0x2e]);

export interface TestTensor {
  type?: string;
  key?: string;
  numel?: number;
  offset?: number;
  shape?: readonly number[];
  strides?: readonly number[];
}

/** A call of _rebuild_tensor_v2; by default a vector of two float32. */
export function tensor({
  type = 'FloatStorage',
  key = '0',
  numel = 2,
  offset = 0,
  shape = [2],
  strides = [1],
}: TestTensor = {}) {
  const numbers = (values: readonly number[]) => op.tuple(...values.map(op.int));
  const storage = op.tuple(
    op.text('storage'),
    op.global('torch', type),
    op.text(key),
    op.text('cpu'),
    op.int(numel),
  );
  return [
    ...op.global('torch._utils', '_rebuild_tensor_v2'),
    ...op.tuple([...storage, ...op.persid], op.int(offset), numbers(shape), numbers(strides), op.false, [
      ...op.global('collections', 'OrderedDict'),
      ...op.emptyTuple,
      ...op.reduce,
    ]),
    ...op.reduce,
  ];
}

/** A torch checkpoint around a pickle and its storages. */
export function buildTorch(
  data: Uint8Array,
  storages: Readonly<Record<string, Uint8Array | readonly number[]>> = { 0: [0, 0, 128, 63, 0, 0, 0, 64] },
  more: readonly TestMember[] = [],
): Uint8Array {
  return buildZip([
    { name: 'top/data.pkl', data },
    ...Object.entries(storages).map(([key, bytes]) => ({ name: `top/data/${key}`, data: bytes })),
    { name: 'top/version', data: utf8('3\n') },
    ...more,
  ]);
}

/** A source that counts what is read of it. */
export function countingSource(bytes: Uint8Array, name = 'x.pt') {
  const reads: { offset: number; length: number }[] = [];
  const inner = bytesSource(bytes, name);
  const source: ByteSource = {
    ...inner,
    read(offset, length) {
      reads.push({ offset, length });
      return inner.read(offset, length);
    },
  };
  return { source, reads };
}
