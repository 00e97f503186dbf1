import type { AdamState } from '@detailflow/checkpoint';
import { DetailFlowError, readFloat32, Tensor, type Weight, type Weights } from '@detailflow/core';
import { officialDiscriminator } from '../losses/official-discriminator';
import { Buffer as Kind, type OptimiserOptions } from '../optimiser';
import type { Snapshot } from './checkpoint-file';
import { DISCRIMINATOR } from './official-training';

/** The state of a training that weights are of, as official checkpoints keep it. */
export interface EarlierTraining {
  /** Steps made. */
  readonly step: number;
  readonly optimiser: AdamState;
  /** Running means of the parameters. */
  readonly averages?: Weights;
  /** The latest codes of a tokenizer (`quantize.codebook_used`). */
  readonly recentCodes?: Weight;
  readonly discriminator?: { readonly weights: Weights; readonly optimiser?: AdamState };
  /** What only runs of ours keep, by the names of a snapshot. */
  readonly own?: Weights;
}

/** Below this share of what bias correction corrects, steps need not be those of the run. */
const NEGLIGIBLE = 1e-6;
const LAST_USE = 'codebook.lastUse';
const RING = 'codebook.ring';
const CODEBOOK = 'quantize.embedding.weight';

/**
 * A snapshot of a trainer that has just begun with the parameters of an earlier training, with the rest of that training in it: moments,
 * running means, discriminator, latest codes and step.
 * @param options.steps those of the run, of which some must be left
 * @param options.start the step from which the discriminator learns, where there is one
 * @throws DetailFlowError `config` when no steps are left, `weights` when a moment does not fit or is not finite
 */
export async function goingOn(
  { tensors }: Snapshot,
  earlier: EarlierTraining,
  options: {
    readonly file?: string;
    readonly section: 'tokenizer' | 'tokenModel';
    readonly steps: number;
    readonly optimiser: OptimiserOptions;
    readonly start?: number;
    readonly onNotice?: (message: string) => void;
  },
): Promise<Snapshot> {
  const { file, section, steps, start = 0, onNotice } = options;
  const { step, optimiser, averages, recentCodes } = earlier;
  if (step >= steps) {
    throw new DetailFlowError(
      'config',
      `the training to go on from has made ${step} steps, and the run has ${steps}: give more, counting those`,
      { file, entry: `${section}.steps` },
    );
  }
  const notice = (text: string) => onNotice?.(`${file ?? section}: ${text}`);
  const found: Record<string, Tensor> = { ...tensors };
  const put = async (key: string, weight: Weight, what: string) => {
    const { dims } = tensors[key];
    const fail = (reason: string) =>
      new DetailFlowError('weights', `${what} ${reason}`, { file, entry: weight.name });
    if (weight.shape.join() !== dims.join()) throw fail(`is [${weight.shape}], must be [${dims}]`);
    const values = await readFloat32(weight);
    if (!values.every(Number.isFinite)) throw fail('has values that are not finite');
    found[key] = new Tensor('float32', values, dims);
  };
  /** Takes in the moments of some parameters. @param own the name in the snapshot */
  const takeMoments = async (
    { moments, settings }: AdamState,
    own: (name: string) => string,
    made: number,
  ) => {
    let other = 0;
    const names = new Set<string>();
    for (const [name, { step: at, mean, square }] of moments) {
      const key = own(name);
      if (!tensors[`${Kind.moment1}.${key}`]) continue; // frozen now, or of a network that is not trained here
      names.add(key);
      await put(`${Kind.moment1}.${key}`, mean, 'the mean of its gradients');
      await put(`${Kind.moment2}.${key}`, square, 'the mean of their squares');
      const longest = Math.max(...options.optimiser.betas);
      if (at !== made && longest ** Math.min(at, made) > NEGLIGIBLE) other++;
    }
    return { settings, names, other };
  };
  const taken = await takeMoments(optimiser, (name) => name, step);
  const isOwn = (key: string) => !key.startsWith(`${Kind.moment1}.${DISCRIMINATOR}`);
  const learned = Object.keys(tensors).filter((key) => key.startsWith(`${Kind.moment1}.`));
  const without = learned.filter(isOwn).filter((key) => !taken.names.has(key.slice(Kind.moment1.length + 1)));
  if (taken.names.size === 0) {
    throw new DetailFlowError('weights', 'the optimiser has moments of none of the parameters that learn', {
      file,
    });
  }
  if (without.length > 0)
    notice(
      `${without.length} of ${learned.filter(isOwn).length} parameters had no gradient yet: their moments begin at 0`,
    );
  if (taken.other > 0)
    notice(
      `${taken.other} parameters had made other numbers of steps than the training: ours counts those of the training`,
    );
  saySettings(taken.settings, options.optimiser, notice);
  for (const [name, weight] of averages ?? []) {
    const key = `${Kind.average}.${name}`;
    if (tensors[key]) await put(key, weight, 'its running mean');
  }
  if (recentCodes && tensors[RING]) {
    const codes = await readFloat32(recentCodes);
    const [size] = tensors[`${Kind.parameter}.${CODEBOOK}`].dims;
    if (!codes.every((code) => Number.isInteger(code) && code >= 0 && code < size)) {
      throw new DetailFlowError('weights', `must hold codes 0 to ${size - 1}`, {
        file,
        entry: recentCodes.name,
      });
    }
    found[RING] = new Tensor('int32', Int32Array.from(codes), [codes.length]);
  }
  // Where nothing says when a code was last used, it is now: as of long ago all would be dead at once.
  const lastUse = tensors[LAST_USE];
  if (lastUse) {
    const uses = earlier.own?.get(LAST_USE);
    const known = uses?.shape.join() === lastUse.dims.join() ? await readFloat32(uses as Weight) : undefined;
    const wrong = known?.find((use) => !(Number.isInteger(use) && use >= 0 && use <= step));
    if (wrong !== undefined) {
      throw new DetailFlowError('weights', `has ${wrong}, which is no step up to ${step}`, {
        file,
        entry: LAST_USE,
      });
    }
    const values = known ? Int32Array.from(known) : new Int32Array(lastUse.data.length).fill(step);
    found[LAST_USE] = new Tensor('int32', values, lastUse.dims);
  }
  await takeDiscriminator();
  return { step, tensors: found };

  async function takeDiscriminator(): Promise<void> {
    const prefix = `${Kind.parameter}.${DISCRIMINATOR}`;
    const names = Object.keys(tensors)
      .filter((key) => key.startsWith(prefix))
      .map((key) => key.slice(prefix.length));
    if (names.length === 0) return;
    const official = officialDiscriminator(names);
    const { discriminator } = earlier;
    const fits = (name: string) =>
      discriminator?.weights.get(official.name(name))?.shape.join() === tensors[prefix + name].dims.join();
    const misfit = names.find((name) => !fits(name));
    if (!discriminator || misfit !== undefined) {
      const why = discriminator
        ? `is another one (${official.name(misfit as string)} does not fit)`
        : 'is not in the file';
      notice(`the discriminator ${why}, so it is drawn anew`);
      return;
    }
    const ownOf = new Map(names.map((name) => [official.name(name), name]));
    for (const [name, own] of ownOf)
      await put(prefix + own, discriminator.weights.get(name) as Weight, 'this weight of the discriminator');
    for (const [name, weight] of earlier.own ?? [])
      if (name.startsWith('adversary.') && tensors[name])
        await put(name, weight, 'this state of the discriminator');
    const made = Math.max(0, step - start);
    if (!discriminator.optimiser) return;
    await takeMoments(discriminator.optimiser, (name) => DISCRIMINATOR + (ownOf.get(name) ?? name), made);
  }
}

/** Says which settings of the optimiser are not those of the training that goes on. */
function saySettings(
  { betas, epsilon, weightDecay }: AdamState['settings'],
  now: OptimiserOptions,
  notice: (text: string) => void,
): void {
  const different = [
    ['betas', betas.join(), now.betas.join()],
    ['epsilon', epsilon, now.epsilon],
    ['weightDecay', weightDecay, now.weightDecay ?? 0],
  ].filter(([, then, is]) => then !== is);
  if (different.length === 0) return;
  const list = different.map(([name, then, is]) => `${name} was ${then} and is ${is} now`);
  notice(`the optimiser goes on with other settings: ${list.join(', ')}`);
}
