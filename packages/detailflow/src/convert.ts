import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { chosenWeights, tokenModelParameters } from '@detailflow/ar-model';
import type { BundleCard, FamilyModel } from '@detailflow/checkpoint';
import { type WriteBundleOptions, writeBundle } from '@detailflow/checkpoint/node';
import { checkOptions, DetailFlowError } from '@detailflow/core';
import { tokenizerParameters } from '@detailflow/tokenizer';
import { isDetailFlow } from './detailflow-family';
import type { ModelSource } from './folder-source';
import { type OpenFamilyOptions, openFamilyModel } from './open-family';

/** Options of {@link convert}. */
export interface ConvertOptions extends WriteBundleOptions, OpenFamilyOptions {
  readonly name?: string;
  /** SPDX expression or text. Default: that of the source bundle, else "unknown". */
  readonly license?: string;
  readonly description?: string;
  readonly attribution?: string;
  readonly classNames?: readonly string[];
}

/**
 * Writes a model of any family as a bundle: one folder with config.json and safetensors, all of it or nothing. What no file of
 * weights says lies in the bundle; weights that only training uses are left out. Folders on the way to `out` are made.
 * @throws DetailFlowError as {@link load} and `writeBundle`; `invalid-argument` for a wrong number of class names;
 *   the signal's reason when aborted
 * @see https://detailflow.github.io/detailflow-ts/guide/migration.html
 */
export async function convert(
  source: ModelSource,
  out: string,
  options: ConvertOptions = {},
): Promise<BundleCard> {
  checkOptions('convert', options, {
    ...{ name: true, license: true, description: true, attribution: true, classNames: true, dtype: true },
    ...{ overwrite: true, signal: true, onProgress: true, families: true, settings: true, hub: true },
  });
  const { name, license, description, attribution, classNames, ...rest } = options;
  const { families, settings, hub, ...writing } = rest;
  const opened = await openFamilyModel(source, { families, settings, hub, signal: options.signal });
  try {
    const { card, family, ar } = opened;
    if (classNames && classNames.length !== ar?.classes) {
      throw new DetailFlowError(
        'invalid-argument',
        `${classNames.length} class names are given, the model has ${ar?.classes || 'no'} classes`,
      );
    }
    await mkdir(path.dirname(path.resolve(out)), { recursive: true });
    return await writeBundle(
      out,
      {
        ...(!isDetailFlow(opened) && { family }),
        name: name ?? card?.name ?? `${family} model`,
        license: license ?? card?.license ?? 'unknown',
        description: description ?? card?.description,
        attribution: attribution ?? card?.attribution,
        classNames: classNames ?? card?.classNames,
        subject: card?.subject,
        recipe: card?.recipe,
        ...(card?.data && { data: card.data }),
        ...parts(opened),
      },
      writing,
    );
  } finally {
    await opened.close();
  }
}

/** The two halves; DetailFlow's checkpoints also hold weights that only training uses. */
function parts(opened: FamilyModel) {
  if (!isDetailFlow(opened)) return { tokenizer: opened.tokenizer, ar: opened.ar };
  const { tokenizer, ar } = opened;
  return {
    tokenizer: {
      config: tokenizer.config,
      weights: chosenWeights(tokenizer.weights, tokenizerParameters(tokenizer.config)),
    },
    ...(ar && {
      ar: { config: ar.config, weights: chosenWeights(ar.weights, tokenModelParameters(ar.config)) },
    }),
  };
}
