import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { tokenModelParameters } from '@detailflow/ar-model';
import type { BundleCard, ConfigObject } from '@detailflow/checkpoint';
import { type WriteBundleOptions, writeBundle } from '@detailflow/checkpoint/node';
import {
  checkOptions,
  DetailFlowError,
  type ParameterSpec,
  type Weight,
  type Weights,
} from '@detailflow/core';
import { tokenizerParameters } from '@detailflow/tokenizer';
import type { ModelSource } from './folder-source';
import { openModel } from './model-source';

/** Options of {@link convert}. */
export interface ConvertOptions extends WriteBundleOptions {
  readonly name?: string;
  /** SPDX expression or text. Default: that of the source bundle, else "unknown". */
  readonly license?: string;
  readonly description?: string;
  readonly attribution?: string;
  readonly classNames?: readonly string[];
}

/**
 * Writes a model as a bundle: one folder with config.json and safetensors, all of it or nothing. Weights that only
 * training uses are left out. Folders on the way to `out` are made.
 * @throws DetailFlowError as {@link load} and `writeBundle`; `invalid-argument` for a wrong number of class names;
 *   the signal's reason when aborted
 */
export async function convert(
  source: ModelSource,
  out: string,
  options: ConvertOptions = {},
): Promise<BundleCard> {
  checkOptions('convert', options, {
    name: true,
    license: true,
    description: true,
    attribution: true,
    classNames: true,
    dtype: true,
    overwrite: true,
    signal: true,
    onProgress: true,
  });
  const { name, license, description, attribution, classNames, ...writing } = options;
  const opened = await openModel(source, { signal: options.signal });
  try {
    const { card, tokenizer, ar } = opened;
    if (classNames && classNames.length !== ar?.config.classes) {
      throw new DetailFlowError(
        'invalid-argument',
        `${classNames.length} class names are given, the model has ${ar?.config.classes ?? 'no'} classes`,
      );
    }
    await mkdir(path.dirname(path.resolve(out)), { recursive: true });
    return await writeBundle(
      out,
      {
        name: name ?? card?.name ?? 'DetailFlow model',
        license: license ?? card?.license ?? 'unknown',
        description: description ?? card?.description,
        attribution: attribution ?? card?.attribution,
        classNames: classNames ?? card?.classNames,
        subject: card?.subject,
        recipe: card?.recipe,
        ...(card?.data && { data: card.data }),
        tokenizer: part(tokenizer, tokenizerParameters(tokenizer.config)),
        ...(ar && { ar: part(ar, tokenModelParameters(ar.config)) }),
      },
      writing,
    );
  } finally {
    await opened.close();
  }
}

/** The configuration as plain JSON, and the weights that the model needs, in its own order. */
function part(model: { config: object; weights: Weights }, specs: readonly ParameterSpec[]) {
  const weights = specs.map(({ name }) => [name, model.weights.get(name) as Weight] as const);
  return { config: model.config as ConfigObject, weights: new Map(weights) };
}
