import { PickleGlobal, PickleRecord, type PickleValue, unpickle } from '@detailflow/checkpoint';
import { DetailFlowError } from '@detailflow/core';

const PIXELS = 3072;

type Value = PickleValue<never>;

/** What a file of CIFAR's Python version holds. */
export interface CifarPickle {
  /** Of every image red, green and blue plane, 3072 bytes. */
  readonly planes: readonly Uint8Array[];
  readonly labels: readonly number[];
}

/**
 * Reads a file of CIFAR-10 or CIFAR-100 in the version for Python: a pickled dict with `data`, a numpy array uint8 [n, 3072],
 * and `labels` or `fine_labels`. Nothing of it is executed.
 * @throws DetailFlowError `format`, `dtype` or `shape`, naming the file and what is wrong in it
 */
export function readCifarPickle(bytes: Uint8Array, file: string): CifarPickle {
  const dict = readDict(bytes, file);
  const data = pixelBytes(dict.get('data'), file);
  const key = ['fine_labels', 'labels'].find((name) => dict.has(name)) ?? 'labels';
  const labels = dict.get(key);
  if (!Array.isArray(labels) || !labels.every((label) => Number.isSafeInteger(label))) {
    throw new DetailFlowError('format', 'is no list of numbers', { file, entry: key });
  }
  if (labels.length * PIXELS !== data.length) {
    throw new DetailFlowError(
      'shape',
      `there are ${labels.length} classes for ${data.length / PIXELS} images`,
      {
        file,
        entry: key,
      },
    );
  }
  const planes = labels.map((_, i) => data.subarray(i * PIXELS, (i + 1) * PIXELS));
  return { planes, labels: labels as number[] };
}

/** The class names of `batches.meta` or `meta`. @throws DetailFlowError `format` */
export function readCifarNames(bytes: Uint8Array, file: string): string[] {
  const dict = readDict(bytes, file);
  const names = dict.get('fine_label_names') ?? dict.get('label_names');
  if (!Array.isArray(names)) throw new DetailFlowError('format', 'has no label_names', { file });
  return names.map(textOf);
}

function readDict(bytes: Uint8Array, file: string): ReadonlyMap<string, Value> {
  const entry = 'pickle';
  const persistent = () => {
    throw new DetailFlowError('format', 'refers to something outside the file', { file, entry });
  };
  const root = unpickle<never>(bytes, { file, entry, globals: new Map(), persistent });
  if (!(root instanceof Map)) throw new DetailFlowError('format', 'holds no dict', { file });
  return new Map([...root].map(([key, value]) => [textOf(key), value]));
}

/** The bytes of a numpy array uint8 [n, 3072]. */
function pixelBytes(value: Value | undefined, file: string): Uint8Array {
  const entry = 'data';
  const array = arrayOf(value);
  if (array === undefined) throw new DetailFlowError('format', 'is no numpy array', { file, entry });
  const { shape, dtype, isFortran, raw } = array;
  const kind = dtype instanceof PickleRecord && Array.isArray(dtype.args) ? dtype.args[0] : undefined;
  if (kind !== 'u1' && kind !== '|u1') {
    throw new DetailFlowError('dtype', `is an array of ${String(kind)}; pixels are u1, that is uint8`, {
      file,
      entry,
    });
  }
  const bytes = rawBytes(raw);
  const [count, width] = Array.isArray(shape) ? shape : [];
  if (width !== PIXELS || typeof count !== 'number' || bytes?.length !== count * PIXELS || isFortran) {
    throw new DetailFlowError(
      'shape',
      `is an array of shape [${String(shape)}] with ${bytes?.length ?? 'no'} bytes; give [n, ${PIXELS}] in C order`,
      { file, entry },
    );
  }
  return bytes;
}

/** What makes up a numpy array, as it is written down. */
interface WrittenArray {
  readonly shape: Value;
  readonly dtype: Value;
  readonly isFortran: boolean;
  readonly raw: Value;
}

/** An array as numpy pickles it: made empty and then set (protocols to 4), or from a buffer (protocol 5). */
function arrayOf(value: Value | undefined): WrittenArray | undefined {
  if (!(value instanceof PickleRecord) || !Array.isArray(value.args)) return undefined;
  if (/^numpy\._?core\.numeric\._frombuffer$/.test(value.type)) {
    const [raw, dtype, shape, order] = value.args;
    return { shape, dtype, isFortran: order !== 'C', raw };
  }
  if (!/^numpy\._?core\.multiarray\._reconstruct$/.test(value.type) || !Array.isArray(value.state)) {
    return undefined;
  }
  const [type] = value.args;
  if (!(type instanceof PickleGlobal && type.name === 'numpy.ndarray')) return undefined;
  const [, shape, dtype, isFortran, raw] = value.state;
  return { shape, dtype, isFortran: isFortran !== false, raw };
}

/** Bytes of Python 3; a text of Python 2; or what Python 3 writes in old protocols, a text to be encoded. */
function rawBytes(raw: Value | undefined): Uint8Array | undefined {
  if (raw instanceof Uint8Array) return raw;
  if (raw instanceof PickleRecord && raw.type === '_codecs.encode' && Array.isArray(raw.args)) {
    const [text, coding] = raw.args;
    return coding === 'latin1' || coding === 'latin-1' ? rawBytes(text) : undefined;
  }
  if (typeof raw !== 'string') return undefined;
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) {
    const code = raw.charCodeAt(i);
    if (code > 255) return undefined;
    bytes[i] = code;
  }
  return bytes;
}

/** A text, which Python 3 may have written as bytes. */
const textOf = (value: Value) =>
  typeof value === 'string' ? value : Buffer.from(rawBytes(value) ?? []).toString();
