import { siglipPatches, siglipTower, type VitConfig } from '@detailflow/blocks';
import {
  add,
  concat,
  linear,
  mul,
  type ParameterSpec,
  reshape,
  resizeMatrix,
  slice,
  sub,
  sum,
  type Value,
} from '@detailflow/core';
import type { Parameters } from './parameters';
import { unitChannels } from './perceptual-distance';
import { SIGLIP, type SiglipConfig } from './siglip';
import { VIT, vitDepths, vitLevels, vitPrefix } from './vit-network';

/**
 * What of a vision transformer two images are compared by: `layers` (default), class token and patches after the blocks of four depths;
 * `last`, the same after the last norm; `class`, the class token after it alone; `logits`, the classes that the network knows.
 */
export type VitFeatures = 'layers' | 'last' | 'class' | 'logits';

/** The classifier of a network that has one. */
export function vitHeadParameters({ width }: VitConfig, classes: number): ParameterSpec[] {
  return [
    { name: `${VIT}head.weight`, shape: [classes, width] },
    { name: `${VIT}head.bias`, shape: [classes] },
  ];
}

/**
 * How different sequences of tokens are: squared differences of features, each divided by its norm over channels as in LPIPS, summed
 * over channels, averaged over tokens, averaged over levels. Each level [B, L, E].
 * @returns [B, 1, 1, 1], from 0 to 4
 */
export function tokenDistance(a: readonly Value[], b: readonly Value[]): Value {
  const distances = a.map((level, i) => {
    const [batch, tokens] = level.shape as number[];
    const difference = sub(unitChannels(level, 2), unitChannels(b[i], 2));
    const total = sum(mul(difference, difference), [1, 2]); // [B, 1, 1]
    return mul(reshape(total, [batch, 1, 1, 1]), 1 / (tokens * a.length));
  });
  return distances.reduce(add);
}

/**
 * How different two images look to a vision transformer.
 * `x`, `y`: [B, 3, S, S] in [-1, 1], S being the size of the network.
 * @returns [B, 1, 1, 1]: see {@link tokenDistance}; of `logits` the mean square of their difference
 */
export function vitDistance(
  p: Parameters,
  config: VitConfig,
  x: Value,
  y: Value,
  features: VitFeatures = 'layers',
): Value {
  const [a, b] = [x, y].map((image) => told(p, config, image, features));
  if (features !== 'logits') return tokenDistance(a, b);
  const difference = sub(a[0], b[0]); // [B, 1, classes]
  const [batch, , classes] = difference.shape as number[];
  return mul(reshape(sum(mul(difference, difference), [1, 2]), [batch, 1, 1, 1]), 1 / classes);
}

/** Side in pixels of the images that SigLIP2 compares: its table of positions as it is. */
export const siglipSize = ({ positionGrid, patchSize }: SiglipConfig): number => positionGrid * patchSize;

/**
 * How different two images look to SigLIP2.
 * `x`, `y`: [B, 3, S, S] in [-1, 1], S being {@link siglipSize}.
 * @param features `layers`: its patches after the blocks of four depths; `last`: after the last norm
 * @returns [B, 1, 1, 1]: see {@link tokenDistance}
 */
export function siglipDistance(
  p: Parameters,
  config: SiglipConfig,
  x: Value,
  y: Value,
  features: 'layers' | 'last' = 'layers',
): Value {
  const { positionGrid: grid, layers: count } = config;
  const depths = vitDepths(count);
  const [a, b] = [x, y].map((images) => {
    const same = images.graph.constant(resizeMatrix('bilinear-antialias', grid, grid), [grid, grid]);
    const layers: Value[] = [];
    const last = siglipTower(p, SIGLIP, config, siglipPatches(p, SIGLIP, config, images, same), {
      onLayer: (layer, seen) => {
        if (depths.includes(layer)) layers.push(seen);
      },
    });
    return features === 'layers' ? layers : [last];
  });
  return tokenDistance(a, b);
}

function told(p: Parameters, config: VitConfig, image: Value, features: VitFeatures): readonly Value[] {
  const { layers, last } = vitLevels(p, config, image);
  if (features === 'layers') return layers.map((level) => withoutRegisters(config, level));
  if (features === 'last') return [withoutRegisters(config, last)];
  const first = slice(last, 1, 0, 1);
  return [features === 'class' ? first : linear(first, p(`${VIT}head.weight`), p(`${VIT}head.bias`))];
}

/** Registers hold nothing of their own place. */
function withoutRegisters(config: VitConfig, sequence: Value): Value {
  const start = vitPrefix(config);
  const patches = slice(sequence, 1, start, sequence.shape[1] as number);
  return config.hasClass ? concat([slice(sequence, 1, 0, 1), patches], 1) : patches;
}
