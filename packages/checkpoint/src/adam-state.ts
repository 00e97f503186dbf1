import { checkOptions, DetailFlowError, readFloat32, type Weight } from '@detailflow/core';
import { dictEntries, kindOf, stateDict } from './state-dict';
import type { TorchCheckpoint } from './torch-checkpoint';
import type { TorchValue } from './torch-globals';
import { TorchTensor } from './torch-tensor';

/** What Adam knows of a parameter. */
export interface AdamMoments {
  /** Steps that it has made. */
  readonly step: number;
  /** Running mean of the gradient (`exp_avg`), of the shape of the parameter. */
  readonly mean: Weight;
  /** Running mean of its square (`exp_avg_sq`). */
  readonly square: Weight;
}

/** How torch's Adam or AdamW was set. */
export interface AdamSettings {
  readonly learningRate: number;
  readonly betas: readonly [number, number];
  readonly epsilon: number;
  /** Of the parameters that decay. */
  readonly weightDecay: number;
}

/** The state of an optimiser, by the names of its parameters. */
export interface AdamState {
  readonly settings: AdamSettings;
  /** Parameters that never had a gradient have none. */
  readonly moments: ReadonlyMap<string, AdamMoments>;
}

/** Where in a checkpoint an optimiser and its parameters are. */
export interface AdamPlace {
  /** Key of the optimiser, such as `optimizer`. */
  readonly optimiser: string;
  /** Key of the state dict of its parameters, such as `model`. */
  readonly model: string;
  /** Entries of the state dict that are no parameters: torch calls them buffers. */
  readonly isBuffer?: (name: string) => boolean;
  /** Sets of parameters that may have been left out of the optimiser, since they do not learn. */
  readonly frozen?: readonly ((name: string) => boolean)[];
}

/**
 * The state of torch's Adam or AdamW. torch numbers parameters instead of naming them: in the order of the state dict, and, where some
 * decay and others do not, group by group. Which it is shows in number and shapes, every one of which must fit. Names that it has
 * beside the numbers (`param_names`) go first.
 * @returns undefined where the checkpoint has no such optimiser
 * @throws DetailFlowError `weights` when it is not one of these parameters, `format` for what is no such state
 */
export async function adamState(
  checkpoint: TorchCheckpoint,
  place: AdamPlace,
): Promise<AdamState | undefined> {
  checkOptions('adamState', place, { optimiser: true, model: true, isBuffer: true, frozen: true });
  const { file, root } = checkpoint;
  const found = dictEntries(root)?.get(place.optimiser);
  if (found === undefined || found === null) return undefined;
  const fail = (reason: string, entry = place.optimiser) =>
    new DetailFlowError('format', reason, { file, entry });
  const state = dictEntries(dictEntries(found)?.get('state'));
  const list = dictEntries(found)?.get('param_groups');
  if (!state || !Array.isArray(list))
    throw fail(`is ${kindOf(found)}, not an optimiser of torch with state and param_groups`);
  const groups = list.map((group, i) =>
    readGroup(group, (reason) => fail(reason, `${place.optimiser}.param_groups.${i}`)),
  );
  if (groups.length === 0) {
    throw new DetailFlowError('weights', 'is of no parameters', { file, entry: place.optimiser });
  }
  const names = namesOf(checkpoint, place, groups, state);
  const moments = new Map<string, AdamMoments>();
  for (const [index, value] of state) {
    const name = names.get(index as number | string);
    if (name === undefined)
      throw fail(`${kindOf(index)} belongs to no parameter of its groups`, `${place.optimiser}.state`);
    moments.set(
      name,
      await readMoments(value, name, (reason) => fail(reason, `${place.optimiser}.state of ${name}`)),
    );
  }
  const decaying = groups.find(({ settings }) => settings.weightDecay > 0) ?? groups[0];
  return { settings: decaying.settings, moments };
}

interface Group {
  readonly settings: AdamSettings;
  readonly params: readonly (number | string)[];
  /** torch 2.6 keeps them where it was given them. */
  readonly names?: readonly string[];
}

function readGroup(value: TorchValue, fail: (reason: string) => DetailFlowError): Group {
  const entries = dictEntries(value);
  const number = (name: string): number => {
    const found = entries?.get(name);
    if (typeof found === 'number' && Number.isFinite(found) && found >= 0) return found;
    throw fail(`${name} is ${kindOf(found)}, not a number`);
  };
  const betas = entries?.get('betas');
  const params = entries?.get('params');
  if (!Array.isArray(betas) || betas.length !== 2 || !betas.every((beta) => typeof beta === 'number'))
    throw fail(`betas are ${kindOf(betas)}: only Adam and AdamW are read`);
  if (!Array.isArray(params) || !params.every((one) => typeof one === 'number' || typeof one === 'string'))
    throw fail(`params are ${kindOf(params)}, not a list of numbers or names`);
  if (entries?.get('amsgrad') === true) throw fail('was made with amsgrad, which is not known here');
  if (entries?.get('maximize') === true) throw fail('climbs (maximize), which is not known here');
  const names = entries?.get('param_names') ?? undefined;
  const isText = (one: TorchValue): one is string => typeof one === 'string';
  if (names !== undefined && !(Array.isArray(names) && names.every(isText) && names.length === params.length))
    throw fail(`param_names are ${kindOf(names)}, not a name for each parameter`);
  const [beta1, beta2] = betas as number[];
  return {
    settings: {
      ...{ learningRate: number('lr'), betas: [beta1, beta2], epsilon: number('eps') },
      weightDecay: number('weight_decay'),
    },
    params: params as (number | string)[],
    ...(names !== undefined && { names: names as string[] }),
  };
}

/** Which parameter each number of the groups is. */
function namesOf(
  checkpoint: TorchCheckpoint,
  { optimiser, model, isBuffer = () => false, frozen = [] }: AdamPlace,
  groups: readonly Group[],
  state: ReadonlyMap<TorchValue, TorchValue>,
): ReadonlyMap<number | string, string> {
  const { file } = checkpoint;
  const weights = stateDict(checkpoint, model);
  const params = groups.flatMap((group) => group.params);
  if (new Set(params).size !== params.length) {
    throw new DetailFlowError('format', 'has a parameter twice', { file, entry: optimiser });
  }
  const plain = (name: string) => name.replace(/^(?:module\.|_orig_mod\.)+/, '');
  const named = groups.every(({ names }) => names !== undefined) && groups.flatMap(({ names = [] }) => names);
  if (named) return new Map(params.map((one, i) => [one, plain(named[i])]));
  // Sharded training has names in place of numbers.
  if (params.every((one) => typeof one === 'string'))
    return new Map(params.map((name) => [name, plain(name)]));
  const all = [...weights.keys()].filter((name) => !isBuffer(name));
  const sets = [all, ...frozen.map((isFrozen) => all.filter((name) => !isFrozen(name)))];
  const isMatrix = (name: string) => {
    const shape = weights.get(name)?.shape ?? [];
    return shape.length >= 2 && !name.endsWith('.bias');
  };
  const divided = (names: readonly string[]): readonly (readonly string[])[] => {
    const [decaying, others] = [names.filter(isMatrix), names.filter((name) => !isMatrix(name))];
    const decaysFirst = groups[0].settings.weightDecay >= (groups[1]?.settings.weightDecay ?? 0);
    return decaysFirst ? [decaying, others] : [others, decaying];
  };
  const orders = sets.flatMap((names) => {
    if (groups.length === 1) return [[names]];
    if (groups.length > 2) return [];
    const [first, second] = divided(names);
    const same = groups[0].settings.weightDecay === groups[1].settings.weightDecay;
    return same
      ? [
          [first, second],
          [second, first],
        ]
      : [[first, second]];
  });
  const shapeOf = (index: number | string): string | undefined => {
    const mean = dictEntries(state.get(index))?.get('exp_avg');
    return mean instanceof TorchTensor ? mean.shape.join() : undefined;
  };
  const fits = (order: readonly (readonly string[])[]) =>
    order.every(
      (names, g) =>
        names.length === groups[g].params.length &&
        names.every((name, i) => {
          const shape = shapeOf(groups[g].params[i]);
          return shape === undefined || shape === weights.get(name)?.shape.join();
        }),
    );
  const order = orders.find(fits);
  if (!order) {
    throw new DetailFlowError(
      'weights',
      `is not that of "${model}": it has ${params.length} parameters in ${groups.length} group${groups.length === 1 ? '' : 's'}, ` +
        `the state dict ${all.length}, and numbers or shapes do not fit`,
      { file, entry: optimiser },
    );
  }
  return new Map(order.flatMap((names, g) => names.map((name, i) => [groups[g].params[i], name] as const)));
}

async function readMoments(
  value: TorchValue,
  name: string,
  fail: (reason: string) => DetailFlowError,
): Promise<AdamMoments> {
  const entries = dictEntries(value);
  const tensor = (key: string): Weight => {
    const found = entries?.get(key);
    if (!(found instanceof TorchTensor)) throw fail(`${key} is ${kindOf(found)}, not a tensor`);
    const { dtype, shape, location } = found;
    return { name, dtype, shape, location, read: () => found.read() };
  };
  const [mean, square] = [tensor('exp_avg'), tensor('exp_avg_sq')];
  if (mean.shape.join() !== square.shape.join())
    throw fail(`has the shapes [${mean.shape}] and [${square.shape}]`);
  const stated = entries?.get('step');
  // A number before torch 1.12.
  const [step] = stated instanceof TorchTensor ? await readFloat32(tensor('step')) : [stated];
  if (typeof step === 'number' && Number.isSafeInteger(step) && step >= 0) return { step, mean, square };
  throw fail(`step is ${kindOf(stated)}, not a number of steps`);
}
