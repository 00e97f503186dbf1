import { readFile } from 'node:fs/promises';
import path from 'node:path';
import type { TrainableFamily } from '@detailflow/blocks';
import { type ConfigObject, configObject } from '@detailflow/checkpoint';
import { ioError, writeBundle } from '@detailflow/checkpoint/node';
import { checkOptions, DetailFlowError } from '@detailflow/core';
import { requireSameHeldOut } from '@detailflow/data';
import type { RunConfig } from '../family-config';
import type { Arrays } from '../initialise';
import type { Snapshot } from './checkpoint-file';
import { codesOrigin, codesSettings } from './codes-origin';
import { readHeldOut } from './held-out-list';
import { modelsInFile } from './models-of';
import { readCheckpoint, type Stage } from './run-folder';
import { notedImages } from './run-images';
import type { RunModels } from './run-models';
import type { TrainedTokenizer } from './trained-tokenizer';
import { parametersOf, readArrays } from './weights';
import { dataOf, halfOf } from './write-model';

/** Which checkpoint of a run becomes a bundle, and where. */
export interface BundleRunOptions {
  /** The folder of the run; nothing in it is changed. */
  readonly run: string;
  /** The bundle. */
  readonly out: string;
  /** A checkpoint of this stage is taken; default: of the AR model where there is one, else of the tokenizer. */
  readonly stage?: Stage;
  /** Its step; default: the last one. */
  readonly step?: number;
  /** The tokenizer that the AR model was trained with, where it was not trained in this run. */
  readonly tokenizer?: TrainedTokenizer;
  /** Families other than DetailFlow that runs may be of. */
  readonly families?: readonly TrainableFamily[];
  readonly overwrite?: boolean;
}

/** What went into the bundle. */
export interface BundledRun {
  readonly bundle: string;
  /** Steps by stage. */
  readonly steps: Partial<Record<Stage, number>>;
}

/**
 * Makes a bundle of any checkpoint of a run, whether it goes on meanwhile or not: running means where the recipe keeps
 * them.
 * @throws DetailFlowError `io` when there is no such checkpoint, `config` and `weights` as the files are; `config` for a tokenizer that
 *   held out other images of the set than the run
 */
export async function bundleRun(options: BundleRunOptions): Promise<BundledRun> {
  checkOptions('bundleRun', options, {
    ...{ run: true, out: true, stage: true, step: true, tokenizer: true, overwrite: true },
    ...{ families: true },
  });
  const { run, out, step, overwrite, families = [] } = options;
  const file = path.join(run, 'config.json');
  const settings = await readSettings(file);
  const { record, classNames } = await readHeldOut(run);
  const lastAr = options.stage === 'tokenizer' ? undefined : await readCheckpoint(run, 'ar');
  const stage = options.stage ?? (lastAr ? 'ar' : 'tokenizer');
  const ar = stage === 'ar' ? await requireCheckpoint(run, 'ar', step) : undefined;
  const tokenizerSettings = settings.section('tokenizer');
  const models = modelsInFile(settings.value, families, file);
  requireSameHeldOut(record, [options.tokenizer]);
  const tokenizer = await tokenizerOf(
    options,
    models,
    tokenizerSettings,
    stage === 'tokenizer' ? step : undefined,
  );
  if (ar) await requireItsTokenizer(run, tokenizer.parameters, settings.value);
  const name = settings.value.name;
  const steps = {
    ...(tokenizer.step !== undefined && { tokenizer: tokenizer.step }),
    ...(ar && { ar: ar.step }),
  };
  await writeBundle(
    out,
    {
      ...(models.family !== undefined && { family: models.family }),
      ...{ name: typeof name === 'string' ? name : 'model', license: 'unknown', classNames },
      description: `Trained on ${settings.value.trainedOn ?? 'images'}, ${stepsText(steps)}`,
      data: dataOf(settings.section('data'), record),
      tokenizer: halfOf(models.tokenizer, tokenizer.parameters),
      ...(ar && { ar: arPart(ar, settings.section('tokenModel'), models, classNames.length) }),
    },
    { overwrite },
  );
  return { bundle: out, steps };
}

const stepsText = (steps: Partial<Record<Stage, number>>) =>
  Object.entries(steps)
    .map(([stage, step]) => `${step} steps of ${stage === 'ar' ? 'the AR model' : 'the tokenizer'}`)
    .join(', ');

async function readSettings(file: string) {
  const text = await readFile(file, 'utf8').catch((cause) => {
    throw ioError('the settings of the run cannot be read', file, cause);
  });
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new DetailFlowError('format', 'is no JSON', { file, cause });
  }
  const value = configObject(json, file);
  return { value, section: (name: string) => configObject(value[name], file, name) };
}

async function requireCheckpoint(run: string, stage: Stage, step?: number): Promise<Snapshot> {
  const found = await readCheckpoint(run, stage, step);
  if (found) return found;
  throw new DetailFlowError(
    'io',
    `the run has no checkpoint of the ${stage === 'ar' ? 'AR model' : 'tokenizer'}`,
    {
      file: run,
    },
  );
}

/** The AR model must have been trained on codes of these parameters: the tokenizer may have gone on since. */
async function requireItsTokenizer(run: string, parameters: Arrays, settings: ConfigObject): Promise<void> {
  const file = path.join(run, 'ar', 'origin.json');
  const { origin } = (await readSettings(file)).value;
  const images = await notedImages(run);
  // config.json is the configuration as it was parsed
  const wanted = codesSettings(settings as unknown as RunConfig);
  if (origin === codesOrigin({ parameters, images, settings: wanted })) return;
  throw new DetailFlowError(
    'config',
    'the AR model was trained with another tokenizer than this one; give that (--tokenizer), or train the AR model anew',
    { file },
  );
}

async function tokenizerOf(
  options: BundleRunOptions,
  { tokenizer: { specs } }: RunModels,
  settings: ConfigObject,
  step?: number,
): Promise<{ parameters: Arrays; step?: number }> {
  const { tokenizer: given, run } = options;
  if (given) return { parameters: await readArrays(specs, given.weights) };
  const found = await requireCheckpoint(run, 'tokenizer', step);
  return { parameters: parametersOf(found, specs, hasMeansBy(settings)), step: found.step };
}

function arPart(snapshot: Snapshot, settings: ConfigObject, models: RunModels, classes: number) {
  const model = models.tokenModel(classes);
  return halfOf(model, parametersOf(snapshot, model.specs, hasMeansBy(settings)));
}

/** Whether a recipe keeps running means. */
const hasMeansBy = ({ recipe }: ConfigObject) => ({
  hasMeans: (recipe as ConfigObject | undefined)?.averageDecay !== undefined,
});
