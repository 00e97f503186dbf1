import { groupNorm } from '@detailflow/blocks';
import { add, conv2d, type ParameterSpec, reshape, type Value } from '@detailflow/core';
import { blur } from './blur';
import { leakyRelu } from './leaky-relu';
import type { Parameters } from './parameters';

/** MaskBit's discriminator: a PatchGAN of 3 x 3 convolutions whose halvings are blurred. */
export interface BlurDiscriminatorConfig {
  /** Channels of the first convolution, twice as many after each halving, at most eight times; default 64. */
  readonly width?: number;
  /** Halvings; default 3. */
  readonly layers?: number;
  /** `group` (default): up to 32 groups of channels are normalised after each halving; `none`: nothing is, as in MaskGIT. */
  readonly norm?: 'group' | 'none';
}

const MOST_GROUPS = 32;
const EPSILON = 1e-5;

/** Channels before and after each halving. */
function plan({ width = 64, layers = 3 }: BlurDiscriminatorConfig) {
  const channels = (i: number) => width * Math.min(2 ** i, 8);
  return Array.from({ length: layers }, (_, i) => ({ from: channels(i), to: channels(i + 1) }));
}

/** The most groups of equal size. */
function groupsOf(channels: number): number {
  let groups = Math.min(MOST_GROUPS, channels);
  while (channels % groups !== 0) groups--;
  return groups;
}

/** Names and shapes of the weights. */
export function blurDiscriminatorParameters(config: BlurDiscriminatorConfig): ParameterSpec[] {
  const { width = 64, norm = 'group' } = config;
  const layer = (name: string, shape: number[]) => [
    { name: `${name}.weight`, shape },
    { name: `${name}.bias`, shape: [shape[0]] },
  ];
  const stages = plan(config);
  const last = stages.at(-1)?.to ?? width;
  return [
    ...layer('input', [width, 3, 3, 3]),
    ...stages.flatMap(({ from, to }, i) => [
      ...layer(`stages.${i}`, [to, from, 3, 3]),
      ...(norm === 'group' ? layer(`stages.${i}.norm`, [to]) : []),
    ]),
    ...layer('hidden', [last, last, 1, 1]),
    ...layer('output', [1, last, 3, 3]),
  ];
}

/**
 * Judgements of patches, high for real ones; that of one image does not depend on the others of its batch.
 * @param x [B, 3, H, W] in [-1, 1]
 * @returns [B, 1, H / 2^layers, W / 2^layers]
 * Source: Weber et al., "MaskBit: embedding-free image generation via bit tokens", 2024.
 */
export function blurDiscriminator(p: Parameters, config: BlurDiscriminatorConfig, x: Value): Value {
  const { norm = 'group' } = config;
  const convolved = (name: string, value: Value, padding: number) => {
    const y = conv2d(value, p(`${name}.weight`), { padding });
    return add(y, reshape(p(`${name}.bias`), [y.shape[1], 1, 1]));
  };
  let y = leakyRelu(convolved('input', x, 1));
  for (const [i, { to }] of plan(config).entries()) {
    const name = `stages.${i}`;
    const halved = blur(convolved(name, y, 1), { padding: 1, stride: 2 });
    const options = { groups: groupsOf(to), epsilon: EPSILON };
    y = leakyRelu(norm === 'group' ? groupNorm(p, `${name}.norm`, halved, options) : halved);
  }
  return convolved('output', leakyRelu(convolved('hidden', y, 0)), 1);
}
