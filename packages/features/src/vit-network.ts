import {
  patchesPerSide,
  prefixTokens,
  type VitConfig,
  vitBlock,
  vitConfigOf,
  vitParameters,
  vitPatches,
  vitSequence,
} from '@detailflow/blocks';
import {
  add,
  DetailFlowError,
  layerNorm,
  mul,
  type Value,
  type Weight,
  type Weights,
} from '@detailflow/core';
import type { Parameters } from './parameters';

/** What names of the weights of a vision transformer begin with here. */
export const VIT = 'vit.';

/** What files of such networks may have before the names. */
const prefixes = ['', 'backbone.', 'model.'];
/** The token that stands for hidden patches is of no use here. */
const UNUSED = 'mask_token';
/** A classifier, which some features need. */
const CLASSIFIER = /^vit\.head\.(weight|bias)$/;
/** Width of a head in the networks of DINO, DINOv2 and DeiT. */
const HEAD_WIDTH = 64;
/** Mean and deviation of ImageNet's pixels in [0, 1]. */
const MEAN = [0.485, 0.456, 0.406];
const DEVIATION = [0.229, 0.224, 0.225];
const NORM_EPSILON = 1e-6;

/**
 * The weights of a vision transformer under the prefix {@link VIT}, from a file with timm's names, or those of DINO's own files.
 * @throws DetailFlowError `weights` when there is no such network
 */
export function vitNetworkWeights(weights: Weights, file?: string): Weights {
  const prefix = prefixes.find((start) => weights.has(`${start}patch_embed.proj.weight`));
  if (prefix === undefined) {
    throw new DetailFlowError('weights', 'holds no vision transformer with the names of timm or DINO', {
      ...{ file, entry: 'patch_embed.proj.weight' },
    });
  }
  const found = new Map<string, Weight>();
  for (const [name, weight] of weights) {
    if (!name.startsWith(prefix) || name === `${prefix}${UNUSED}`) continue;
    const own = `${VIT}${name.slice(prefix.length)}`;
    found.set(own, { ...weight, name: own });
  }
  return found;
}

/**
 * Sizes of a vision transformer, read off its weights; its heads are of 64, as in DINO, DINOv2 and DeiT, unless `heads` says how many
 * there are.
 * @param weights names beginning with {@link VIT}: see {@link vitNetworkWeights}
 * @throws DetailFlowError `weights`, `config` when they make none, or one with parts that are not known here
 */
export function vitNetworkConfig(
  weights: Weights,
  { heads, file }: { readonly heads?: number; readonly file?: string } = {},
): VitConfig {
  const shapeOf = (name: string, axes: number): readonly number[] => {
    const shape = weights.get(`${VIT}${name}`)?.shape;
    if (shape?.length === axes) return shape;
    throw new DetailFlowError('weights', `there is no such weight of ${axes} axes`, { file, entry: name });
  };
  const [width, channels, patchSize, columns] = shapeOf('patch_embed.proj.weight', 4);
  const [, rows] = shapeOf('pos_embed', 3);
  const grid = Math.floor(Math.sqrt(rows));
  if (channels !== 3 || patchSize !== columns) {
    throw new DetailFlowError(
      'weights',
      `is [${width},${channels},${patchSize},${columns}], must be [E,3,p,p]`,
      {
        ...{ file, entry: 'patch_embed.proj.weight' },
      },
    );
  }
  if (heads === undefined && width % HEAD_WIDTH !== 0) {
    throw new DetailFlowError(
      'config',
      `a width of ${width} is no multiple of ${HEAD_WIDTH}: how many heads it has is not known`,
      { file },
    );
  }
  const named = new Map([...weights].map(([name, weight]) => [name.slice(VIT.length), weight])); // as in the file
  const config = vitConfigOf(
    named,
    '',
    { imageSize: grid * patchSize, patchSize, heads: heads ?? width / HEAD_WIDTH },
    { file },
  );
  const known = new Set(vitParameters(VIT, config).map(({ name }) => name));
  const foreign = [...weights.keys()].find((name) => !known.has(name) && !CLASSIFIER.test(name));
  if (foreign !== undefined) {
    throw new DetailFlowError('weights', 'is part of a vision transformer of another form', {
      ...{ file, entry: foreign.slice(VIT.length) },
    });
  }
  if (grid < 2) {
    throw new DetailFlowError('config', `${rows} positions make no grid of patches`, {
      file,
      entry: 'pos_embed',
    });
  }
  return config;
}

/** Side of the images that it was trained on, in pixels: the table of positions is of that size. */
export const vitNetworkSize = (config: VitConfig): number => patchesPerSide(config) * config.patchSize;

/** The four depths at which features are taken, as numbers of blocks from 0: 2, 5, 8, 11 of 12. */
export const vitDepths = (layers: number): readonly number[] => [
  ...new Set([1, 2, 3, 4].map((quarter) => Math.ceil((quarter * layers) / 4) - 1)),
];

/** What a vision transformer sees, as sequences [B, L, E] of class token, registers and patches. */
export interface VitLevels {
  /** Before the first block. */
  readonly embedding: Value;
  /** After the blocks of {@link vitDepths}. */
  readonly layers: readonly Value[];
  /** After the last norm. */
  readonly last: Value;
}

/**
 * Looks at images with a vision transformer, as they are normalised for DINO: by ImageNet's mean and deviation.
 * @param images [B, 3, S, S] in [-1, 1], S being {@link vitNetworkSize}
 */
export function vitLevels(p: Parameters, config: VitConfig, images: Value): VitLevels {
  const channel = (value: (i: number) => number) =>
    images.graph.constant(Float32Array.from([0, 1, 2], value), [3, 1, 1]);
  const scale = channel((i) => 0.5 / DEVIATION[i]);
  const normal = add(
    mul(images, scale),
    channel((i) => (0.5 - MEAN[i]) / DEVIATION[i]),
  );
  const embedding = vitSequence(p, VIT, config, vitPatches(p, VIT, config, normal));
  const depths = vitDepths(config.layers);
  const layers: Value[] = [];
  let x = embedding;
  for (let layer = 0; layer < config.layers; layer++) {
    x = vitBlock(p, VIT, config, x, layer);
    if (depths.includes(layer)) layers.push(x);
  }
  const last = layerNorm(x, p(`${VIT}norm.weight`), p(`${VIT}norm.bias`), NORM_EPSILON);
  return { embedding, layers, last };
}

/** Tokens before the patches of a sequence. */
export const vitPrefix = (config: VitConfig): number => prefixTokens(config);
