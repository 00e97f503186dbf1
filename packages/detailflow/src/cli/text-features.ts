import type { TextSizes } from '@detailflow/checkpoint';
import { openFile } from '@detailflow/checkpoint/node';
import {
  type ByteSource,
  DetailFlowError,
  fileLimits,
  readFloat32,
  readSafetensors,
  Tensor,
  type TextCondition,
} from '@detailflow/core';
import { openNpz } from '@detailflow/data';
import { type Options, UsageError } from './command';
import { hasExtension } from './files';
import type { Values } from './values';

/** How texts are given to models that draw for them. */
export const textOptions: Options = {
  'text-features': {
    type: 'string',
    value: 'FILE',
    source: 'files',
    help: 'for models of texts: features float32 [B, T, F] and mask [B, T] (.npz, .safetensors)',
  },
  'no-left-padding': {
    type: 'boolean',
    help: 'for models of texts: take the features as they lie, not moved so that the valid rows come last',
  },
};

/** An array of a file. */
interface Found {
  readonly shape: readonly number[];
  read(): Promise<Float32Array>;
}

/**
 * The texts that --text-features names, one for each row of the file.
 * @throws DetailFlowError naming the file and the array that is missing or of another shape
 */
export async function readTexts(values: Values, text: TextSizes): Promise<TextCondition[] | undefined> {
  const file = values.text('text-features');
  if (file === undefined) {
    if (values.flag('no-left-padding')) throw new UsageError('--no-left-padding is for --text-features');
    return undefined;
  }
  if (!['.npz', '.safetensors'].some((kind) => hasExtension(file, kind))) {
    throw new UsageError(`--text-features "${file}": give a .npz or .safetensors file`);
  }
  const source = await openFile(file);
  try {
    const arrays = await openArrays(source, file);
    const features = arrays.get('features');
    if (!features) {
      const names = [...arrays.keys()].slice(0, 8).join(', ');
      throw new DetailFlowError('format', `holds no array "features" (it has ${names || 'none'})`, { file });
    }
    return await textsOf(features, arrays.get('mask'), {
      text,
      file,
      isPadded: !values.flag('no-left-padding'),
    });
  } finally {
    await source.close?.();
  }
}

async function openArrays(source: ByteSource, file: string): Promise<ReadonlyMap<string, Found>> {
  if (hasExtension(file, '.safetensors')) {
    const weights = await readSafetensors(source);
    return new Map(
      [...weights].map(([name, weight]) => [name, { shape: weight.shape, read: () => readFloat32(weight) }]),
    );
  }
  const arrays = await openNpz(source);
  return new Map(
    [...arrays].map(([name, array]) => {
      const read = async () =>
        Float32Array.from((await array.read()).data as ArrayLike<number | bigint>, Number);
      const found = {
        get shape() {
          return array.shape;
        },
        read,
      };
      return [name, found];
    }),
  );
}

interface Reading {
  readonly text: TextSizes;
  readonly file: string;
  readonly isPadded: boolean;
}

async function textsOf(features: Found, mask: Found | undefined, at: Reading): Promise<TextCondition[]> {
  const { text, file, isPadded } = at;
  const dims = features.shape.length === 2 ? [1, ...features.shape] : features.shape;
  const [count, rows, width] = dims;
  const fail = (entry: string, reason: string) => new DetailFlowError('shape', reason, { file, entry });
  if (dims.length !== 3 || dims.includes(0) || width !== text.width) {
    throw fail(
      'features',
      `has shape [${features.shape}]; this model takes [B, T, ${text.width}], T up to ${text.places}`,
    );
  }
  if (!isPadded && rows !== text.places) {
    throw fail('features', `has ${rows} rows a text; without left padding this model takes ${text.places}`);
  }
  if (4 * count * rows * width > fileLimits.arrayBytes) {
    throw new DetailFlowError('limit', `more than ${fileLimits.arrayBytes} bytes of features`, { file });
  }
  if (mask && mask.shape.join() !== features.shape.slice(0, -1).join()) {
    throw fail(
      'mask',
      `has shape [${mask.shape}]; the features are of [${features.shape.slice(0, -1)}] places`,
    );
  }
  const all = await features.read();
  const kept = mask && Uint8Array.from(await mask.read(), (value) => Number(value !== 0));
  return Array.from({ length: count }, (_, i) => {
    const size = rows * width;
    const one: TextCondition = {
      features: new Tensor('float32', all.slice(i * size, (i + 1) * size), [rows, width]),
      ...(kept && { mask: new Tensor('bool', kept.slice(i * rows, (i + 1) * rows), [rows]) }),
    };
    try {
      return isPadded ? text.padded(one) : one;
    } catch (error) {
      if (!DetailFlowError.isInstance(error)) throw error;
      throw new DetailFlowError(error.code, `text ${i}: ${error.message}`, { file, cause: error });
    }
  });
}
