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
  return names.map((name) => (name instanceof Uint8Array ? Buffer.from(name).toString() : `${name}`));
}

function readDict(bytes: Uint8Array, file: string): ReadonlyMap<unknown, Value> {
  const entry = 'pickle';
  const persistent = () => {
    throw new DetailFlowError('format', 'refers to something outside the file', { file, entry });
  };
  const root = unpickle<never>(bytes, { file, entry, globals: new Map(), persistent });
  if (!(root instanceof Map)) throw new DetailFlowError('format', 'holds no dict', { file });
  // Python 3 may have written the keys as bytes.
  return new Map(
    [...root].map(([key, value]) => [key instanceof Uint8Array ? Buffer.from(key).toString() : key, value]),
  );
}

/** The bytes of a numpy array uint8 [n, 3072]. */
function pixelBytes(value: Value | undefined, file: string): Uint8Array {
  const entry = 'data';
  const [, shape, dtype, isFortran, raw] = arrayState(value) ?? [];
  if (shape === undefined) throw new DetailFlowError('format', 'is no numpy array', { file, entry });
  const kind = dtype instanceof PickleRecord && Array.isArray(dtype.args) ? dtype.args[0] : undefined;
  if (kind !== 'u1' && kind !== '|u1') {
    throw new DetailFlowError('dtype', `is an array of ${String(kind)}; pixels are u1, that is uint8`, {
      file,
      entry,
    });
  }
  const bytes = rawBytes(raw);
  const [count, width] = Array.isArray(shape) ? shape : [];
  if (
    width !== PIXELS ||
    typeof count !== 'number' ||
    bytes?.length !== count * PIXELS ||
    isFortran === true
  ) {
    throw new DetailFlowError(
      'shape',
      `is an array of shape [${String(shape)}] with ${bytes?.length ?? 'no'} bytes; give [n, ${PIXELS}] in C order`,
      { file, entry },
    );
  }
  return bytes;
}

/** What numpy sets of an array that it makes anew: version, shape, dtype, whether in Fortran order, bytes. */
function arrayState(value: Value | undefined): readonly Value[] | undefined {
  if (!(value instanceof PickleRecord) || !/^numpy\.(?:_?core)\.multiarray\._reconstruct$/.test(value.type)) {
    return undefined;
  }
  const [type] = Array.isArray(value.args) ? value.args : [];
  const isArray = type instanceof PickleGlobal && type.name === 'numpy.ndarray';
  return isArray && Array.isArray(value.state) ? value.state : undefined;
}

/** Bytes of Python 3; a text of Python 2; or what Python 3 writes for its version 2 pickles, a text to be encoded. */
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
