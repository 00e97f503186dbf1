import { DetailFlowError } from '@detailflow/core';

const dtypes = {
  float32: { descr: '<f4', array: Float32Array },
  float64: { descr: '<f8', array: Float64Array },
  int32: { descr: '<i4', array: Int32Array },
  int64: { descr: '<i8', array: BigInt64Array },
  uint8: { descr: '|u1', array: Uint8Array },
} as const;

/** Bytes of a value. */
export const itemBytes = Object.fromEntries(
  Object.entries(dtypes).map(([name, { array }]) => [name, array.BYTES_PER_ELEMENT]),
) as Readonly<Record<keyof typeof dtypes, number>>;

/** The data types of .npy files that are read. */
export type NpyDType = keyof typeof dtypes;

/** An array of a .npy file; `data` is in C order (last axis fastest) and matches `dtype`. */
export type NpyArray = {
  [D in NpyDType]: {
    readonly dtype: D;
    readonly shape: number[];
    readonly data: InstanceType<(typeof dtypes)[D]['array']>;
  };
}[NpyDType];

/**
 * Reads a .npy file, format versions 1.0 to 3.0, of float32, float64, int32, int64 or uint8, little-endian.
 * Fortran order is turned into C order. The data is a copy.
 * Source: NumPy's numpy.lib.format.
 * @param details.file names the file in errors
 * @throws DetailFlowError 'format' for a file that breaks the format or whose size is not what its header says,
 *   'dtype' for other data types, 'limit' for a header beyond 64 KiB or more than 32 axes
 */
export function readNpy(bytes: Uint8Array, details: { file?: string } = {}): NpyArray {
  const header = readNpyHeader(bytes, bytes.length, details);
  return npyArray(header, header.shape, bytes.subarray(header.end));
}

/** What a .npy file says of itself, and where its data begin. */
export interface NpyHeader {
  readonly dtype: NpyDType;
  readonly fortranOrder: boolean;
  readonly shape: readonly number[];
  /** Bytes of the header. */
  readonly end: number;
  /** Bytes of a value. */
  readonly width: number;
}

/** Bytes that hold every header that is read. */
export const MOST_HEADER_BYTES = 65536 + 12;

/**
 * The header of a .npy file of `size` bytes, of which the first are given.
 * @throws DetailFlowError as {@link readNpy}
 */
export function readNpyHeader(first: Uint8Array, size: number, details: { file?: string } = {}): NpyHeader {
  const { text, end } = headerText(first, details.file);
  const { descr, fortranOrder, shape } = new HeaderParser(text, details.file).parse();
  const dtype = (Object.keys(dtypes) as NpyDType[]).find((name) => dtypes[name].descr === descr);
  if (dtype === undefined) {
    const known = Object.entries(dtypes).map(([name, { descr: code }]) => `${name} (${code})`);
    throw new DetailFlowError(
      'dtype',
      `holds ${JSON.stringify(descr)}; readable are ${known.join(', ')}. Convert it in NumPy with array.astype`,
      details,
    );
  }
  const width = itemBytes[dtype];
  const expected = shape.reduce((product, extent) => product * extent, width);
  if (expected !== size - end) {
    throw new DetailFlowError(
      'format',
      `${dtype} of shape [${shape.join(', ')}] takes ${expected} bytes, the file holds ${size - end} after its header`,
      details,
    );
  }
  return { dtype, fortranOrder: fortranOrder && shape.length > 1, shape, end, width };
}

/** The array of some bytes, which are copied. */
export function npyArray(
  { dtype, fortranOrder }: Pick<NpyHeader, 'dtype' | 'fortranOrder'>,
  shape: readonly number[],
  bytes: Uint8Array,
): NpyArray {
  const stored = new dtypes[dtype].array(new Uint8Array(bytes).buffer);
  const data = fortranOrder ? toCOrder(stored, shape) : stored;
  return { dtype, shape: [...shape], data } as NpyArray;
}

/**
 * A .npy file, format version 1.0, C order, its dtype chosen by the kind of `data`.
 * @throws DetailFlowError 'shape' when shape and data disagree
 */
export function writeNpy(array: NpyContents): Uint8Array {
  const { data, shape } = array;
  if (!shape.every(isExtent) || shape.reduce((product, extent) => product * extent, 1) !== data.length) {
    throw new DetailFlowError('shape', `${data.length} values do not make an array [${shape.join(', ')}]`);
  }
  const dtype = (['float32', 'float64', 'int32', 'uint8'] as const).find(
    (name) => data instanceof dtypes[name].array,
  ) as NpyDType;
  const header = npyHeader(dtype, shape);
  const bytes = new Uint8Array(header.length + data.byteLength);
  bytes.set(header);
  bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), header.length);
  return bytes;
}

/** What {@link writeNpy} takes. */
export interface NpyContents {
  readonly data: Float32Array | Float64Array | Int32Array | Uint8Array;
  readonly shape: readonly number[];
}

/** The header of a .npy file in C order; its data follow. */
export function npyHeader(dtype: NpyDType, shape: readonly number[]): Uint8Array {
  const tuple = shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(', ')})`;
  const dict = `{'descr': '${dtypes[dtype].descr}', 'fortran_order': False, 'shape': ${tuple}, }`;
  const start = Math.ceil((10 + dict.length + 1) / 64) * 64; // data aligned to 64 bytes, as NumPy does
  const bytes = new Uint8Array(start);
  bytes.set(magic);
  bytes.set([1, 0], 6);
  new DataView(bytes.buffer).setUint16(8, start - 10, true);
  bytes.set(new TextEncoder().encode(`${dict.padEnd(start - 11)}\n`), 10);
  return bytes;
}

const magic = Uint8Array.of(0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59); // \x93NUMPY
const MAX_HEADER = 65536;
const MAX_AXES = 32;

const isExtent = (value: number) => Number.isSafeInteger(value) && value >= 0;

function headerText(bytes: Uint8Array, file?: string): { text: string; end: number } {
  const fail = (message: string) => new DetailFlowError('format', message, { file });
  if (bytes.length < 10 || !magic.every((byte, i) => bytes[i] === byte)) throw fail('is not a .npy file');
  const [major, minor] = [bytes[6], bytes[7]];
  if (major < 1 || major > 3 || minor !== 0) {
    throw fail(`has .npy format version ${major}.${minor}; readable are 1.0, 2.0 and 3.0`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const start = major === 1 ? 10 : 12;
  if (bytes.length < start) throw fail('ends inside its header');
  const length = major === 1 ? view.getUint16(8, true) : view.getUint32(8, true);
  if (length > MAX_HEADER) {
    throw new DetailFlowError('limit', `has a header of ${length} bytes; the limit is ${MAX_HEADER}`, {
      file,
    });
  }
  const end = start + length;
  if (end > bytes.length) throw fail('ends inside its header');
  return { text: new TextDecoder('latin1').decode(bytes.subarray(start, end)), end };
}

/** Reads {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}: these three keys once each, and no others. */
class HeaderParser {
  private at = 0;

  constructor(
    private readonly text: string,
    private readonly file?: string,
  ) {}

  parse(): { descr: string; fortranOrder: boolean; shape: number[] } {
    const found = new Map<string, unknown>();
    this.expect(/\{/y, '{');
    while (!this.accept(/\}/y)) {
      const key = this.string();
      if (found.has(key)) throw this.error(`key ${JSON.stringify(key)} twice`);
      this.expect(/:/y, ':');
      if (key === 'descr') found.set(key, this.string());
      else if (key === 'fortran_order')
        found.set(key, this.expect(/True|False/y, 'True or False') === 'True');
      else if (key === 'shape') found.set(key, this.tuple());
      else throw this.error(`unknown key ${JSON.stringify(key)}`);
      if (!this.accept(/,/y)) {
        this.expect(/\}/y, ', or }');
        break;
      }
    }
    this.expect(/$/y, 'the end');
    for (const key of ['descr', 'fortran_order', 'shape']) {
      if (!found.has(key)) throw this.error(`no ${key}`);
    }
    return {
      descr: found.get('descr') as string,
      fortranOrder: found.get('fortran_order') as boolean,
      shape: found.get('shape') as number[],
    };
  }

  private tuple(): number[] {
    const shape: number[] = [];
    this.expect(/\(/y, '(');
    while (!this.accept(/\)/y)) {
      const extent = Number(this.expect(/0|[1-9]\d*/y, 'an extent'));
      if (!isExtent(extent)) throw this.error(`extent ${extent} is too large`);
      if (shape.push(extent) > MAX_AXES) {
        throw new DetailFlowError('limit', `has more than ${MAX_AXES} axes`, { file: this.file });
      }
      if (this.accept(/,/y)) continue;
      if (shape.length === 1) throw this.error('a shape that is no tuple');
      this.expect(/\)/y, ', or )');
      break;
    }
    return shape;
  }

  private string(): string {
    return this.expect(/'[^'"\\]*'|"[^'"\\]*"/y, 'a string').slice(1, -1);
  }

  private expect(pattern: RegExp, what: string): string {
    const match = this.accept(pattern);
    if (match === undefined) throw this.error(`no ${what} at character ${this.at}`);
    return match;
  }

  /** The text that the sticky pattern matches after white space, or undefined. */
  private accept(pattern: RegExp): string | undefined {
    while (/\s/.test(this.text.charAt(this.at))) this.at++;
    pattern.lastIndex = this.at;
    const match = pattern.exec(this.text)?.[0];
    this.at += match?.length ?? 0;
    return match;
  }

  private error(what: string): DetailFlowError {
    return new DetailFlowError('format', `has a broken .npy header: ${what}`, { file: this.file });
  }
}

function toCOrder(source: NpyArray['data'], shape: readonly number[]): NpyArray['data'] {
  const out = source.slice();
  const strides = shape.map((_, axis) => shape.slice(0, axis).reduce((a, b) => a * b, 1));
  const index = new Array<number>(shape.length).fill(0);
  let from = 0;
  for (let to = 0; to < out.length; to++) {
    out[to] = source[from];
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      from += strides[axis];
      if (++index[axis] < shape[axis]) break;
      from -= strides[axis] * shape[axis];
      index[axis] = 0;
    }
  }
  return out;
}
