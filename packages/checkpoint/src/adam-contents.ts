import { checkOptions, weightFromArray } from '@detailflow/core';
import type { AdamState } from './adam-state';
import { NumberedItems, type TorchContents, type TorchItem } from './encode-pickle';

/** An optimiser for {@link adamContents}: what of it all parameters share, and which there are, in torch's order. */
export interface AdamContents extends AdamState {
  /** The parameters that it has, in the order of the state dict. */
  readonly parameters: readonly { readonly name: string; readonly shape: readonly number[] }[];
  /** The learning rate without its schedule. */
  readonly initialRate: number;
  /** Which of two groups comes first, where some parameters decay; otherwise there is one group. */
  readonly first: 'decaying' | 'others';
}

/** The state dict of torch's Adam (AdamW where parameters decay), as `load_state_dict` takes it. */
export function adamContents(contents: AdamContents): TorchContents {
  checkOptions('adamContents', contents, {
    ...{ settings: true, moments: true, parameters: true, initialRate: true, first: true },
  });
  const { settings, moments, parameters, initialRate, first } = contents;
  const isMatrix = ({ name, shape }: AdamContents['parameters'][number]) =>
    shape.length >= 2 && !name.endsWith('.bias');
  const [decaying, others] = [parameters.filter(isMatrix), parameters.filter((one) => !isMatrix(one))];
  const divided = settings.weightDecay > 0;
  const groups = !divided ? [parameters] : first === 'decaying' ? [decaying, others] : [others, decaying];
  const state = new Map<number, TorchItem>();
  const list: TorchItem[] = [];
  let index = 0;
  for (const group of groups) {
    const numbers = group.map(() => index++);
    for (const [i, { name }] of group.entries()) {
      const found = moments.get(name);
      if (!found) continue;
      const step = weightFromArray('step', [], Float32Array.of(found.step));
      state.set(numbers[i], { step, exp_avg: found.mean, exp_avg_sq: found.square });
    }
    const decays = divided && group === decaying;
    list.push({
      ...{ lr: settings.learningRate, betas: Object.freeze([...settings.betas]), eps: settings.epsilon },
      ...{ weight_decay: decays ? settings.weightDecay : 0, amsgrad: false, maximize: false, foreach: null },
      ...{ capturable: false, differentiable: false, fused: null, initial_lr: initialRate },
      ...{ param_names: group.map(({ name }) => name), params: numbers },
    });
  }
  return { state: new NumberedItems(state), param_groups: list };
}
