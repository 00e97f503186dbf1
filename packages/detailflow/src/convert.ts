import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { chosenWeights, tokenModelParameters } from '@detailflow/ar-model';
import { createNodeBackend } from '@detailflow/backend-node';
import type { BundleCard, FamilyModel } from '@detailflow/checkpoint';
import { type WriteBundleOptions, writeBundle } from '@detailflow/checkpoint/node';
import { checkOptions, DetailFlowError, describe, type Weights } from '@detailflow/core';
import { agreedDType } from '@detailflow/core/rounded-weight';
import type { Quantisation } from '@detailflow/onnx';
import { tokenizerParameters } from '@detailflow/tokenizer';
import { calibrate } from './calibrate';
import { isDetailFlow } from './detailflow-family';
import type { ModelSource } from './folder-source';
import { type OpenFamilyOptions, openFamilyModel } from './open-family';
import { withDecoder } from './other-decoder';
import { roundedDecoder, roundedTransformer } from './rounded-weights';

/** Options of {@link convert}. */
export interface ConvertOptions extends Omit<WriteBundleOptions, 'dtype'>, OpenFamilyOptions {
  /**
   * Storage of the weights: 'f32' (default), 'f16' (half the size, computed in float32), or 'q8' and 'q4': the matrices of the AR
   * model in 8 or 4 bits, those of DetailFlow's decoder in 8, everything else float32; they are mapped as they lie, and computed with
   * in few bits. Rounded matrices of the source stay as they are.
   */
  readonly dtype?: WriteBundleOptions['dtype'] | Quantisation;
  /**
   * With `q8` or `q4`: lets the model draw pictures of its classes first, and rounds its matrices by what goes into them, which keeps
   * it nearer to float32. Takes the memory and the time of a few pictures in float32, and of the rounding. Default: no.
   */
  readonly calibrate?: boolean;
  /** A model of DetailFlow whose decoder takes the place of the source's; it must have learned the same codes. */
  readonly decoder?: ModelSource;
  readonly name?: string;
  /** SPDX expression or text. Default: that of the source bundle, else "unknown". */
  readonly license?: string;
  readonly description?: string;
  readonly attribution?: string;
  readonly classNames?: readonly string[];
  /** What the model draws, for people, such as "emoji on white". */
  readonly subject?: string;
  /** The guidance scale that is worth recommending, from 0. */
  readonly cfg?: number;
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
    ...{ calibrate: true, decoder: true, subject: true, cfg: true },
    ...{ overwrite: true, signal: true, onProgress: true, families: true, settings: true, hub: true },
  });
  const { name, license, description, attribution, classNames, subject, cfg, ...rest } = options;
  const { families, settings, hub, dtype, calibrate: isCalibrated = false, decoder, ...writing } = rest;
  const reading = { families, hub, signal: options.signal };
  const found = await openFamilyModel(source, { ...reading, settings });
  let other: FamilyModel | undefined;
  try {
    other = decoder === undefined ? undefined : await openFamilyModel(decoder, reading);
    const opened = other ? await withDecoder(found, other) : found;
    const { card, family, ar } = opened;
    const kinds = { f32: 'fp32', f16: 'fp32', q8: 'q8', q4: 'q4' } as const;
    if (dtype !== undefined && !Object.hasOwn(kinds, dtype)) {
      throw new DetailFlowError('invalid-argument', `dtype is ${describe(dtype)}; give f32, f16, q8 or q4`);
    }
    const wanted = ar ? agreedDType(ar.weights, dtype && kinds[dtype], ar.file) : undefined;
    if ((dtype === 'q8' || dtype === 'q4') && !ar) {
      throw new DetailFlowError(
        'unsupported',
        `${dtype} rounds the matrices of an AR model, and this model has none`,
        {
          file: opened.tokenizer.file,
        },
      );
    }
    const rounding = wanted === 'q8' || wanted === 'q4' ? wanted : undefined;
    if (isCalibrated && !rounding) {
      throw new DetailFlowError(
        'invalid-argument',
        'calibrate is for matrices that are rounded here; give dtype q8 or q4 and a model that is not rounded yet',
      );
    }
    if (classNames && classNames.length !== ar?.classes) {
      throw new DetailFlowError(
        'invalid-argument',
        `${classNames.length} class names are given, the model has ${ar?.classes || 'no'} classes`,
      );
    }
    const moments = isCalibrated ? await measured(opened, options.signal) : undefined;
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
        subject: subject ?? card?.subject,
        recipe: cfg === undefined ? card?.recipe : { ...card?.recipe, cfg },
        ...(card?.data && { data: card.data }),
        ...(await parts(opened, rounding, moments)),
      },
      { ...writing, dtype: dtype === 'f16' ? 'f16' : 'f32' },
    );
  } finally {
    await found.close();
    await other?.close();
  }
}

type Moments = Awaited<ReturnType<typeof calibrate>>;

async function measured(opened: FamilyModel, signal: AbortSignal | undefined): Promise<Moments> {
  await using backend = await createNodeBackend();
  return await calibrate(opened, backend, { signal });
}

/** The two halves; DetailFlow's checkpoints also hold weights that only training uses. */
async function parts(opened: FamilyModel, rounding: Quantisation | undefined, moments: Moments | undefined) {
  const rounded = async (weights: Weights) =>
    rounding ? roundedTransformer(opened, weights, rounding, moments) : weights;
  const decoded = async (weights: Weights) => (rounding ? roundedDecoder(opened, weights) : weights);
  if (!isDetailFlow(opened)) {
    const { tokenizer, ar } = opened;
    return { tokenizer, ar: ar && { config: ar.config, weights: await rounded(ar.weights) } };
  }
  const { tokenizer, ar } = opened;
  return {
    tokenizer: {
      config: tokenizer.config,
      weights: await decoded(chosenWeights(tokenizer.weights, tokenizerParameters(tokenizer.config))),
    },
    ...(ar && {
      ar: {
        config: ar.config,
        weights: await rounded(chosenWeights(ar.weights, tokenModelParameters(ar.config))),
      },
    }),
  };
}
