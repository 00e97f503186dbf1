import type { AdamMoments } from '@detailflow/checkpoint';
import { adamContents, mostCheckpointBytes, type TorchContents } from '@detailflow/checkpoint/node';
import {
  DetailFlowError,
  type ParameterSpec,
  type Weight,
  type Weights,
  weightFromArray,
} from '@detailflow/core';
import type { Arrays } from '../initialise';
import { officialDiscriminator } from '../losses/official-discriminator';
import { Buffer as Kind } from '../optimiser';
import { tokenizerSchedule, tokenModelSchedule } from '../schedule';
import type { TokenModelRecipe } from '../token-model-trainer';
import type { TokenizerRecipe } from '../tokenizer-recipe';
import type { Snapshot } from './checkpoint-file';
import { inOfficialOrder } from './official-order';
import { parametersOf } from './weights';

/** Before the names of a discriminator's parameters, in a snapshot. */
export const DISCRIMINATOR = 'discriminator.';
/** The parameters that go on learning, where `model` has their running means: the official layout has no place for both. */
export const LEARNING = 'training_model';
/** What a run keeps besides, which the official layout has no place for: averages and vectors of the discriminator, last uses of codes. */
export const OWN = 'detailflow';
const own = /^(adversary\.|codebook\.lastUse$)/;

/**
 * Whether a snapshot is the training that parameters come from: other ones may lie in the folder of a run whose tokenizer was given.
 * @param options.hasMeans the parameters are its running means
 */
export function isTrainingOf(
  snapshot: Snapshot,
  arrays: Arrays,
  specs: readonly ParameterSpec[],
  options: { readonly hasMeans: boolean },
): boolean {
  let found: Arrays;
  try {
    found = parametersOf(snapshot, specs, options);
  } catch (error) {
    if (DetailFlowError.isInstance(error)) return false;
    throw error;
  }
  const bytes = ({ buffer, byteOffset, byteLength }: Float32Array) =>
    Buffer.from(buffer, byteOffset, byteLength);
  return specs.every(({ name }) => {
    const [one, other] = [found.get(name), arrays.get(name)];
    return one !== undefined && other !== undefined && bytes(one).equals(bytes(other));
  });
}

/** What an official checkpoint of a tokenizer has of its training: optimisers and discriminator; `ema` where running means are kept. */
export function tokenizerTraining(snapshot: Snapshot, recipe: TokenizerRecipe): TorchContents {
  const { step } = snapshot;
  const names = namesIn(snapshot);
  const ofModel = names.filter((name) => !name.startsWith(DISCRIMINATOR));
  const factor = tokenizerSchedule(Math.max(0, step - 1), recipe.schedule);
  const optimiser = (parameters: readonly Weight[], moments: ReadonlyMap<string, AdamMoments>) =>
    adamContents({
      settings: settingsOf(recipe, factor),
      ...{ moments, parameters, initialRate: recipe.learningRate, first: 'others' },
    });
  const hasMeans = recipe.averageDecay !== undefined;
  const kept = Object.keys(snapshot.tensors).filter((name) => own.test(name));
  return {
    ...(hasMeans && {
      ema: weightsIn(snapshot, Kind.average, ofModel),
      [LEARNING]: weightsIn(snapshot, Kind.parameter, ofModel),
    }),
    optimizer: optimiser(known(snapshot, ofModel, recipe), momentsIn(snapshot, ofModel, step)),
    ...(recipe.adversarial && discriminatorTraining(snapshot, names, recipe.adversarial.start, optimiser)),
    ...(kept.length > 0 && { [OWN]: new Map(kept.map((name) => [name, weightIn(snapshot, name, name)])) }),
  };
}

function discriminatorTraining(
  snapshot: Snapshot,
  all: readonly string[],
  start: number,
  optimiser: (parameters: readonly Weight[], moments: ReadonlyMap<string, AdamMoments>) => TorchContents,
): TorchContents {
  const names = all
    .filter((name) => name.startsWith(DISCRIMINATOR))
    .map((name) => name.slice(DISCRIMINATOR.length));
  const { name: official, norms } = officialDiscriminator(names);
  const ownOf = new Map(names.map((name) => [official(name), name]));
  const weight = (kind: string, name: string) =>
    weightIn(snapshot, `${kind}.${DISCRIMINATOR}${ownOf.get(name)}`, name);
  const ordered = inOfficialOrder(ownOf.keys());
  const parameters = ordered.map((name) => weight(Kind.parameter, name));
  const updates = Math.max(0, snapshot.step - start);
  const moments = new Map(
    (updates === 0 ? [] : ordered).map((name) => {
      const [mean, square] = [weight(Kind.moment1, name), weight(Kind.moment2, name)];
      return [name, { step: updates, mean, square }];
    }),
  );
  const buffers = [...norms].flatMap(([norm, ofOwn]) => {
    const channels = snapshot.tensors[`${Kind.parameter}.${DISCRIMINATOR}${ofOwn}`].dims;
    const filled = (value: number) => new Float32Array(channels[0]).fill(value);
    return [
      weightFromArray(`${norm}.running_mean`, channels, filled(0)),
      weightFromArray(`${norm}.running_var`, channels, filled(1)),
      integer(`${norm}.num_batches_tracked`),
    ];
  });
  return {
    discriminator: new Map([...parameters, ...buffers].map((one) => [one.name, one])),
    optimizer_disc: optimiser(parameters, moments),
  };
}

/** What an official checkpoint of an AR model has beside its running means. */
export function tokenModelTraining(snapshot: Snapshot, recipe: TokenModelRecipe): TorchContents {
  const { step } = snapshot;
  const names = namesIn(snapshot);
  const settings = settingsOf(recipe, tokenModelSchedule(Math.max(0, step - 1), recipe.schedule));
  const groups = settings.weightDecay > 0 ? 2 : 1;
  const each = <T>(value: T): T[] => new Array<T>(groups).fill(value);
  return {
    model: weightsIn(snapshot, Kind.parameter, names),
    optimizer: adamContents({
      ...{ settings, moments: momentsIn(snapshot, names, step), initialRate: recipe.learningRate },
      ...{ parameters: known(snapshot, names, recipe), first: 'decaying' },
    }),
    // Of torch's LambdaLR, whose function is not saved.
    scheduler: {
      ...{ base_lrs: each(recipe.learningRate), last_epoch: step, verbose: false, _step_count: step + 1 },
      ...{ _get_lr_called_within_step: false, _last_lr: each(settings.learningRate), lr_lambdas: each(null) },
    },
  };
}

/** Bytes that tensors of a checkpoint take; more than {@link mostCheckpointBytes} cannot be written. */
export function fitsCheckpoint(...contents: readonly (TorchContents | Weights)[]): boolean {
  let bytes = 0;
  const count = (item: unknown): void => {
    if (typeof item !== 'object' || item === null) return;
    const { read, shape } = item as Partial<Weight>;
    if (typeof read === 'function') bytes += 4 * (shape ?? []).reduce((a, b) => a * b, 1) + 256;
    else for (const one of item instanceof Map ? item.values() : Object.values(item)) count(one);
  };
  contents.forEach(count);
  return bytes < mostCheckpointBytes;
}

const settingsOf = ({ learningRate, optimiser }: TokenizerRecipe | TokenModelRecipe, factor: number) => ({
  ...{ learningRate: learningRate * factor, betas: optimiser.betas, epsilon: optimiser.epsilon },
  weightDecay: optimiser.weightDecay ?? 0,
});

/** Names of all parameters of a snapshot. */
function namesIn({ tensors }: Snapshot): string[] {
  const prefix = `${Kind.parameter}.`;
  const names = Object.keys(tensors).filter((name) => name.startsWith(prefix));
  return inOfficialOrder(names.map((name) => name.slice(prefix.length)));
}

/** The parameters that the optimiser knows: Adam is given all, AdamW those that learn. */
function known(
  snapshot: Snapshot,
  names: readonly string[],
  { optimiser }: TokenizerRecipe | TokenModelRecipe,
): Weight[] {
  const learned = (name: string) => snapshot.tensors[`${Kind.moment1}.${name}`] !== undefined;
  return names
    .filter((name) => (optimiser.weightDecay ?? 0) === 0 || learned(name))
    .map((name) => weightIn(snapshot, `${Kind.parameter}.${name}`, name));
}

function momentsIn(snapshot: Snapshot, names: readonly string[], step: number): Map<string, AdamMoments> {
  const learned = names.filter((name) => snapshot.tensors[`${Kind.moment1}.${name}`] !== undefined);
  return new Map(
    (step === 0 ? [] : learned).map((name) => {
      const moment = (kind: string) => weightIn(snapshot, `${kind}.${name}`, name);
      return [name, { step, mean: moment(Kind.moment1), square: moment(Kind.moment2) }];
    }),
  );
}

/** Tensors of a kind by the names of the parameters; frozen ones have only themselves. */
const weightsIn = (snapshot: Snapshot, kind: string, names: readonly string[]): Weights =>
  new Map(
    names.map((name) => {
      const found = snapshot.tensors[`${kind}.${name}`] === undefined ? Kind.parameter : kind;
      return [name, weightIn(snapshot, `${found}.${name}`, name)];
    }),
  );

function weightIn({ tensors }: Snapshot, key: string, name: string): Weight {
  const { data, dims } = tensors[key];
  const values = data instanceof Float32Array ? data : Float32Array.from(data as Int32Array);
  return weightFromArray(name, dims, values);
}

const integer = (name: string): Weight => ({
  ...{ name, dtype: 'i64', shape: [] },
  read: async () => new Uint8Array(new BigInt64Array(1).buffer),
});
