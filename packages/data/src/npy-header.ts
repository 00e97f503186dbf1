import { DetailFlowError, fileLimits } from '@detailflow/core';
import { dtypeNames, dtypes, formatDescr, type NpyDType, parseDescr } from './npy-dtype';

/** What a .npy file says of itself, and where its data begin. */
export interface NpyHeader {
  readonly dtype: NpyDType;
  readonly isBigEndian: boolean;
  readonly fortranOrder: boolean;
  readonly shape: readonly number[];
  /** Bytes of the header. */
  readonly end: number;
  /** Bytes of a value. */
  readonly width: number;
}

const { headerBytes: MAX_HEADER, axes: MAX_AXES } = fileLimits.npy;

/** Bytes that hold every header that is read. */
export const MOST_HEADER_BYTES = MAX_HEADER + 12;

/**
 * The header of a .npy file of `size` bytes, of which the first are given.
 * @throws DetailFlowError 'format', 'dtype' or 'limit'
 */
export function readNpyHeader(first: Uint8Array, size: number, details: { file?: string } = {}): NpyHeader {
  const { text, end } = headerText(first, details.file);
  const { descr, fortranOrder, shape } = new HeaderParser(text, details.file).parse();
  const found = parseDescr(descr);
  if (found === undefined) {
    const what = /^[<>=|]?O|'[<>=|]?O/.test(descr)
      ? 'Python objects, which are never unpickled'
      : JSON.stringify(descr.slice(0, 200));
    throw new DetailFlowError(
      'dtype',
      `holds ${what}; readable are ${dtypeNames.join(', ')}. Convert it in NumPy with array.astype`,
      details,
    );
  }
  const width = dtypes[found.dtype].bytes;
  const expected = shape.reduce((product, extent) => product * extent, width);
  if (expected !== size - end) {
    throw new DetailFlowError(
      'format',
      `${found.dtype} of shape [${shape.join(', ')}] takes ${expected} bytes, the file holds ${size - end} after its header`,
      details,
    );
  }
  return { ...found, fortranOrder: fortranOrder && shape.length > 1, shape, end, width };
}

/**
 * The header of a .npy file, format version 1.0, in C order; its data follow.
 * @throws DetailFlowError 'shape' for an impossible shape, 'limit' for more axes than are read
 */
export function npyHeader(dtype: NpyDType, shape: readonly number[]): Uint8Array {
  if (!shape.every(isExtent)) throw new DetailFlowError('shape', `[${shape.join(', ')}] is no shape`);
  if (shape.length > MAX_AXES) {
    throw new DetailFlowError(
      'limit',
      `${shape.length} axes are too many for a .npy file; at most ${MAX_AXES}`,
    );
  }
  const tuple = shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(', ')})`;
  const dict = `{'descr': '${formatDescr(dtype)}', 'fortran_order': False, 'shape': ${tuple}, }`;
  const start = Math.ceil((10 + dict.length + 1) / 64) * 64; // data aligned to 64 bytes, as NumPy does
  const bytes = new Uint8Array(start);
  bytes.set(magic);
  bytes.set([1, 0], 6);
  new DataView(bytes.buffer).setUint16(8, start - 10, true);
  bytes.set(new TextEncoder().encode(`${dict.padEnd(start - 11)}\n`), 10);
  return bytes;
}

const magic = Uint8Array.of(0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59); // \x93NUMPY

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
  const text = new TextDecoder(major === 3 ? 'utf-8' : 'latin1').decode(bytes.subarray(start, end));
  return { text, end };
}

/**
 * Reads {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}: these three keys once each, and no others. Python 2
 * writes extents with an L behind them.
 */
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
      if (key === 'descr')
        found.set(key, this.accept(/(?=[[(])/y) === undefined ? this.string() : this.structure());
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
      const extent = Number(this.expect(/(?:0|[1-9]\d*)L?/y, 'an extent').replace('L', ''));
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
    return this.expect(/u?(?:'[^'"\\]*'|"[^'"\\]*")/y, 'a string')
      .replace(/^u/, '')
      .slice(1, -1);
  }

  /** The text of a list or tuple, as describes an array of records. */
  private structure(): string {
    const begin = this.at;
    let depth = 0;
    do {
      const part = this.expect(/[[\](),]|'[^'\\]*'|"[^"\\]*"|\d+L?/y, 'a data type');
      if (part === '[' || part === '(') depth++;
      if (part === ']' || part === ')') depth--;
    } while (depth > 0);
    return this.text.slice(begin, this.at);
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
