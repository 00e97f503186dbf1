import { formatShape } from './dim';
import { DetailFlowError } from './errors';
import { fileLimits } from './file-limits';
import { type StorageDType, storageBytes } from './weights';

/** One tensor as the header describes it; `begin` and `end` count from the end of the header. */
export interface HeaderTensor {
  readonly name: string;
  readonly dtype: StorageDType;
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
}

export interface Header {
  /** In the order of the header. */
  readonly tensors: readonly HeaderTensor[];
  readonly metadata: ReadonlyMap<string, string>;
}

/** How safetensors spells the dtypes that this library knows. */
export const dtypeNames: Readonly<Record<StorageDType, string>> = {
  f64: 'F64',
  f32: 'F32',
  f16: 'F16',
  bf16: 'BF16',
  i64: 'I64',
  i32: 'I32',
  i16: 'I16',
  i8: 'I8',
  u64: 'U64',
  u32: 'U32',
  u16: 'U16',
  u8: 'U8',
  bool: 'BOOL',
  c64: 'C64',
  f8_e4m3: 'F8_E4M3',
  f8_e5m2: 'F8_E5M2',
  f8_e8m0: 'F8_E8M0',
  f8_e4m3fnuz: 'F8_E4M3FNUZ',
  f8_e5m2fnuz: 'F8_E5M2FNUZ',
  f6_e2m3: 'F6_E2M3',
  f6_e3m2: 'F6_E3M2',
  f4: 'F4',
};

const dtypes = new Map(Object.entries(dtypeNames).map(([dtype, name]) => [name, dtype as StorageDType]));

/**
 * Parses and checks the JSON header of a safetensors file by the rules of the safetensors library (0.8), and stricter
 * where that keeps the last of two equal keys. Fields of a tensor that the format does not know are passed over.
 * @param bytes the header alone, without the eight bytes of its length
 * @param dataBytes how many bytes follow the header
 * @throws DetailFlowError `format` for every broken rule
 */
export function parseHeader(file: string, bytes: Uint8Array, dataBytes: number): Header {
  const fail = (reason: string, entry?: string, cause?: unknown) =>
    new DetailFlowError('format', `not a valid safetensors file: ${reason}`, { file, entry, cause });

  if (bytes[bytes.findIndex((byte) => !isSpace(byte))] !== 0x7b) {
    throw fail("the header does not start with '{'");
  }
  let text: string;
  let fault: string | undefined;
  let json: unknown;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw fail('the header is not UTF-8', undefined, cause);
  }
  try {
    fault = strictJsonFault(text);
    if (fault === undefined) json = JSON.parse(text);
  } catch (cause) {
    throw fail('the header is not JSON', undefined, cause);
  }
  if (fault !== undefined) throw fail(`the JSON of its header breaks a rule: ${fault}`);

  const tensors: HeaderTensor[] = [];
  let metadata: ReadonlyMap<string, string> = new Map();
  for (const [name, value] of Object.entries(json as object)) {
    if (name === '__metadata__') {
      if (value === null) continue;
      if (!isRecord(value) || !Object.values(value).every((item) => typeof item === 'string')) {
        throw fail('it must map strings to strings', name);
      }
      metadata = new Map(Object.entries(value as Record<string, string>));
    } else {
      tensors.push(parseTensor(name, value, dataBytes, fail));
    }
  }
  checkCover(tensors, dataBytes, fail);
  return { tensors, metadata };
}

type Fail = (reason: string, entry?: string) => DetailFlowError;

const tensorFields = ['dtype', 'shape', 'data_offsets'];

function parseTensor(name: string, value: unknown, dataBytes: number, fail: Fail): HeaderTensor {
  if (!isRecord(value) || !tensorFields.every((field) => Object.hasOwn(value, field))) {
    throw fail('a tensor must have dtype, shape and data_offsets', name);
  }
  const { dtype: spelled, shape, data_offsets: offsets } = value;
  const dtype = typeof spelled === 'string' ? dtypes.get(spelled) : undefined;
  if (dtype === undefined) throw fail(`unknown data type ${JSON.stringify(spelled)?.slice(0, 40)}`, name);
  if (!isCounts(shape)) throw fail('shape must be a list of non-negative integers below 2^53', name);
  if (!isCounts(offsets) || offsets.length !== 2) throw fail('data_offsets must be two integers', name);
  const length = byteLength(shape, dtype);
  if (length === undefined)
    throw fail(`shape ${formatShape(shape)} is too large, or does not fill whole bytes`, name);
  const [begin, end] = offsets;
  if (begin > end) throw fail(`its data begins (${begin}) after its end (${end})`, name);
  if (end > dataBytes) {
    throw fail(`its data ends at ${end}, but the file holds only ${dataBytes} bytes of data`, name);
  }
  if (end - begin !== length) {
    throw fail(
      `${spelled} ${formatShape(shape)} takes ${length} bytes, data_offsets give ${end - begin}`,
      name,
    );
  }
  return { name, dtype, shape, begin, end };
}

/** Refuses overlaps, gaps and bytes that belong to no tensor. */
function checkCover(tensors: readonly HeaderTensor[], dataBytes: number, fail: Fail): void {
  let reached = 0;
  for (const tensor of [...tensors].sort((a, b) => a.begin - b.begin || a.end - b.end)) {
    if (tensor.begin < reached) throw fail('its data overlaps that of another tensor', tensor.name);
    if (tensor.begin > reached) {
      throw fail(`bytes ${reached}..${tensor.begin} before its data belong to no tensor`, tensor.name);
    }
    reached = tensor.end;
  }
  if (reached !== dataBytes) throw fail(`the last ${dataBytes - reached} bytes belong to no tensor`);
}

/** Bytes of a tensor; undefined where a product on the way passes 2^53, or elements of few bits do not fill a byte. */
export function byteLength(shape: readonly number[], dtype: StorageDType): number | undefined {
  let count = 1;
  for (const extent of shape) {
    count *= extent;
    if (!Number.isSafeInteger(count)) return undefined;
  }
  const length = count * storageBytes[dtype];
  return Number.isSafeInteger(length) ? length : undefined;
}

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && item >= 0);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

const { keys: maxKeys, axes: maxListItems, nameLength: maxNameLength } = fileLimits.safetensors;

/**
 * What JSON.parse lets pass and the format does not: duplicate keys (it keeps the last), lone surrogates in
 * strings, and values other than strings, objects, lists and plain non-negative integers. It also refuses what
 * would take far more memory to parse than its text: deep nesting, long lists, more than 100 000 keys. Runs
 * before JSON.parse, which finds the remaining faults.
 * @throws SyntaxError for some strings that are no JSON
 */
function strictJsonFault(text: string): string | undefined {
  /** Keys of the open objects, number of items of an open list. */
  const open: (Set<string> | number)[] = [];
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    const inside = open[open.length - 1];
    if (code === 0x7b || code === 0x5b) {
      if (typeof inside === 'number' || open.length >= 3) return `at character ${at} it is nested too deep`;
      open.push(code === 0x7b ? new Set() : 0);
    } else if (code === 0x7d || code === 0x5d) {
      open.pop();
    } else if (code === 0x22) {
      const start = at;
      for (at++; text.charCodeAt(at) !== 0x22; at++) {
        if (at >= text.length) return undefined;
        if (text.charCodeAt(at) === 0x5c) at++;
      }
      let string = text.slice(start + 1, at);
      if (string.includes('\\')) {
        string = JSON.parse(text.slice(start, at + 1));
        if (/\p{Surrogate}/u.test(string)) return 'a string holds half a character (a lone surrogate)';
      }
      let next = at + 1;
      while (isSpace(text.charCodeAt(next))) next++;
      if (text.charCodeAt(next) !== 0x3a || !(inside instanceof Set)) continue;
      if (inside.has(string)) return `key ${JSON.stringify(string.slice(0, 200))} occurs twice`;
      if (string.length > maxNameLength) return `a name has more than ${maxNameLength} characters`;
      if (inside.size >= maxKeys) return `an object has more than ${maxKeys} keys`;
      inside.add(string);
    } else if (code === 0x2c) {
      if (typeof inside !== 'number') continue;
      if (inside + 1 >= maxListItems) return `a list has more than ${maxListItems} items`;
      open[open.length - 1] = inside + 1;
    } else if (text.startsWith('null', at) && inside instanceof Set) {
      at += 3;
    } else if (!(code >= 0x30 && code <= 0x39) && code !== 0x3a && !isSpace(code)) {
      return `'${text[at]}' at character ${at}: only objects, lists, strings and non-negative integers may occur`;
    }
  }
  return undefined;
}

/** White space of JSON. */
const isSpace = (code: number) => code === 0x20 || code === 0x0a || code === 0x0d || code === 0x09;
