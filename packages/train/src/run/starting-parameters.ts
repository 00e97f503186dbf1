import { DetailFlowError, type ParameterSpec, readFloat32 } from '@detailflow/core';
import { ignoredTokenizerWeights, tokenizerParameters } from '@detailflow/tokenizer';
import type { Arrays } from '../initialise';
import type { LossTerm } from '../losses/loss-term';
import type { TrainingConfig } from '../training-config';
import { pretrainedTowers } from './pretrained-towers';
import type { InitialParameters, InitialPart, TrainOptions } from './train-options';

/** Names that a message lists. */
const SHOWN = 10;

/** Parameters that a tokenizer begins with: those that were given, else pretrained towers; undefined where all are drawn. */
export async function startingTokenizer(
  { model: config, recipe }: TrainingConfig['tokenizer'],
  terms: readonly LossTerm[],
  options: Pick<TrainOptions, 'initial' | 'onNotice' | 'lossNetworks'>,
): Promise<Arrays | undefined> {
  const optional = terms.flatMap(({ specs }) => specs);
  const found = await startingParameters('tokenizer', options, {
    ...{ config, specs: tokenizerParameters(config), optional, ignored: ignoredTokenizerWeights },
  });
  const { pretrained } = recipe;
  if (!pretrained) return found;
  if (found) {
    options.onNotice?.(
      `${options.initial?.tokenizer?.file}: training begins with this tokenizer, so tokenizer.pretrained changes nothing`,
    );
    return found;
  }
  const source = options.lossNetworks?.siglip;
  if (source !== undefined) return pretrainedTowers(source, config, pretrained);
  throw new DetailFlowError('config', 'needs the vision tower of SigLIP2: give its folder as "siglip"', {
    entry: 'tokenizer.pretrained',
  });
}

const called = { tokenizer: 'tokenizer', ar: 'AR model' } as const;

/** A half that begins with parameters. */
interface StartingModel {
  readonly config: object;
  readonly specs: readonly ParameterSpec[];
  /** What further losses learn: taken where it is there. */
  readonly optional: readonly ParameterSpec[];
  readonly ignored: readonly string[];
}

/**
 * Whether one half can begin with what is given for it; reads no values.
 * @returns what does not fit, and is drawn
 * @throws DetailFlowError `weights`, `config`
 */
export function requireFitting(
  half: 'tokenizer' | 'ar',
  { initial }: Pick<TrainOptions, 'initial'>,
  model: StartingModel,
): readonly string[] {
  const part = initial?.[half];
  if (!part) return [];
  const { isLenient = false } = initial as InitialParameters;
  const different = differences(part, model);
  if (isLenient) return different;
  if (part.config && half === 'tokenizer') requireConfig(part.config, model.config, half);
  if (different.length > 0) throw misfit(half, part, different);
  return different;
}

/** Parameters that one half begins with; undefined where all are drawn. @throws DetailFlowError `weights`, `config` where they do not fit */
export async function startingParameters(
  half: 'tokenizer' | 'ar',
  { initial, onNotice }: Pick<TrainOptions, 'initial' | 'onNotice'>,
  model: StartingModel,
): Promise<Arrays | undefined> {
  const part = initial?.[half];
  if (!part) return undefined;
  const different = requireFitting(half, { initial }, model);
  const arrays: Arrays = new Map();
  for (const { name, shape } of [...model.specs, ...model.optional]) {
    const weight = part.weights.get(name);
    if (weight && weight.shape.join() === shape.join()) arrays.set(name, await readFloat32(weight));
  }
  const taken = model.specs.filter(({ name }) => arrays.has(name)).length;
  if (taken === 0) throw misfit(half, part, different);
  if (taken < model.specs.length) {
    onNotice?.(
      `${called[half]}: ${taken} of ${model.specs.length} weights are taken, the others are drawn: ${listed(different)}`,
    );
  }
  return arrays;
}

/** Weights that are missing, have another shape, or are nobody's. */
function differences({ weights }: InitialPart, { specs, optional, ignored }: StartingModel): string[] {
  const known = new Set([...specs, ...optional].map(({ name }) => name));
  const isIgnored = (name: string) =>
    known.has(name) ||
    ignored.some((start) => name === start || (start.endsWith('.') && name.startsWith(start)));
  return [
    ...specs.flatMap(({ name, shape }) => {
      const found = weights.get(name);
      if (!found) return [`${name} is missing`];
      return found.shape.join() === shape.join() ? [] : [`${name} is [${found.shape}], must be [${shape}]`];
    }),
    ...optional.flatMap(({ name, shape }) => {
      const found = weights.get(name);
      return found && found.shape.join() !== shape.join()
        ? [`${name} is [${found.shape}], must be [${shape}]`]
        : [];
    }),
    ...[...weights.keys()].filter((name) => !isIgnored(name)).map((name) => `${name} is of no use here`),
  ];
}

const listed = (names: readonly string[]): string =>
  names.slice(0, SHOWN).join('; ') + (names.length > SHOWN ? `; and ${names.length - SHOWN} more` : '');

const misfit = (half: 'tokenizer' | 'ar', { file }: InitialPart, different: readonly string[]) =>
  new DetailFlowError(
    'weights',
    `the ${called[half]} to begin with does not fit the settings: ${listed(different)}. Change the settings, or take what fits (--lenient)`,
    { file },
  );

/** @throws DetailFlowError `config` naming the first setting in which a model differs from that of the settings */
export function requireConfig(given: object, wanted: object, section: 'tokenizer' | 'ar'): void {
  const [has, should] = [given, wanted].map((one) => one as Readonly<Record<string, unknown>>);
  const names = [...new Set([...Object.keys(should), ...Object.keys(has)])];
  const different = names.find((name) => JSON.stringify(should[name]) !== JSON.stringify(has[name]));
  if (different === undefined) return;
  const [is, must] = [has[different], should[different]].map((value) => JSON.stringify(value));
  throw new DetailFlowError(
    'config',
    `the ${called[section]} that was given has ${is}, the settings say ${must}`,
    { entry: `${section === 'ar' ? 'tokenModel' : 'tokenizer'}.model.${different}` },
  );
}
