import {
  add,
  attention,
  ConfigFields,
  DetailFlowError,
  type ParameterSpec,
  reshape,
  silu,
  slice,
  transpose,
  type Value,
} from '@detailflow/core';
import { convolution, groupNorm, nearestTwice, sides } from './image-layers';
import type { Parameters } from './parameters';

/** Sizes of one half of the VQGAN-style autoencoder that LlamaGen, VAR and FlexVAR share. */
export interface ConvTowerConfig {
  /** Channels of each level, finest first; the image is halved from each level to the next. */
  readonly channels: readonly number[];
  /** Channels of the encoder's first convolution; those of the finest level unless said. */
  readonly stem?: number;
  /** Residual blocks of a level of the encoder; the decoder has one more. */
  readonly blocks: number;
  /** Channels that the encoder ends with and the decoder begins with. */
  readonly latentChannels: number;
  /** Whether attention has one matrix `qkv` instead of `q`, `k` and `v`. */
  readonly jointAttention?: boolean;
}

/** Every group norm of the family. */
const NORM = { groups: 32, epsilon: 1e-6 } as const;

const MOST_LEVELS = 16;
const MOST_CHANNELS = 1 << 14;

/**
 * The sizes of one half from plain data, checked and bounded.
 * @throws DetailFlowError `config` naming the field
 */
export function parseConvTower(
  value: unknown,
  options: { readonly file?: string; readonly prefix: string },
): ConvTowerConfig {
  const fields = new ConfigFields(value, options);
  const channels = fields.raw('channels');
  const isCount = (n: unknown) => Number.isInteger(n) && (n as number) > 0 && (n as number) <= MOST_CHANNELS;
  const isList = Array.isArray(channels) && channels.length > 0 && channels.length <= MOST_LEVELS;
  if (!isList || !channels.every(isCount)) {
    throw new DetailFlowError(
      'config',
      `must be a list of up to ${MOST_LEVELS} numbers of channels, each up to ${MOST_CHANNELS}`,
      { file: options.file, entry: `${options.prefix}.channels` },
    );
  }
  return {
    ...{ channels: channels as number[], blocks: fields.count('blocks') },
    latentChannels: fields.count('latentChannels'),
    ...(fields.raw('stem') !== undefined && { stem: fields.count('stem') }),
    ...(fields.raw('jointAttention') === true && { jointAttention: true }),
  };
}

/** How many pixels a latent place covers in each direction. */
export const strideOf = ({ channels }: ConvTowerConfig): number => 2 ** (channels.length - 1);

/**
 * Images [B, 3, H, W] -> [B, z, H / stride, W / stride]. Weights have the names of LlamaGen below `name`; a family with
 * other names translates them in `p`.
 */
export function convEncoder(p: Parameters, config: ConvTowerConfig, images: Value, name = 'encoder'): Value {
  const last = config.channels.length - 1;
  let x = convolution(p, `${name}.conv_in`, images, { padding: 1 });
  for (let level = 0; level <= last; level++) {
    const at = `${name}.conv_blocks.${level}`;
    for (let i = 0; i < config.blocks; i++) {
      x = residualBlock(p, `${at}.res.${i}`, x, config.channels[level]);
      if (level === last) x = attentionBlock(p, `${at}.attn.${i}`, x, config);
    }
    // One row of zeros below and one column at the right, then every second place.
    if (level < last) x = convolution(p, `${at}.downsample.conv`, x, { padding: [0, 0, 1, 1], stride: 2 });
  }
  return ending(p, name, middle(p, name, x, config));
}

/** Latents [B, z, h, w] -> images [B, 3, h stride, w stride], not clamped. */
export function convDecoder(p: Parameters, config: ConvTowerConfig, latents: Value, name = 'decoder'): Value {
  const last = config.channels.length - 1;
  let x = middle(p, name, convolution(p, `${name}.conv_in`, latents, { padding: 1 }), config);
  for (let level = last; level >= 0; level--) {
    const at = `${name}.conv_blocks.${last - level}`;
    for (let i = 0; i <= config.blocks; i++) {
      x = residualBlock(p, `${at}.res.${i}`, x, config.channels[level]);
      if (level === last) x = attentionBlock(p, `${at}.attn.${i}`, x, config);
    }
    if (level > 0) x = convolution(p, `${at}.upsample.conv`, nearestTwice(x), { padding: 1 });
  }
  return ending(p, name, x);
}

/** Names and shapes of an encoder's or a decoder's weights. */
export function convTowerParameters(
  kind: 'encoder' | 'decoder',
  config: ConvTowerConfig,
  name: string = kind,
): ParameterSpec[] {
  const { channels: levels, blocks, latentChannels, jointAttention = false } = config;
  const { stem = levels[0] } = config;
  const last = levels.length - 1;
  const conv = (at: string, from: number, to: number, size: number): ParameterSpec[] => [
    { name: `${at}.weight`, shape: [to, from, size, size] },
    { name: `${at}.bias`, shape: [to] },
  ];
  const norm = (at: string, channels: number): ParameterSpec[] => [
    { name: `${at}.weight`, shape: [channels] },
    { name: `${at}.bias`, shape: [channels] },
  ];
  const residual = (at: string, from: number, to: number) => [
    ...norm(`${at}.norm1`, from),
    ...conv(`${at}.conv1`, from, to, 3),
    ...norm(`${at}.norm2`, to),
    ...conv(`${at}.conv2`, to, to, 3),
    ...(from === to ? [] : conv(`${at}.nin_shortcut`, from, to, 1)),
  ];
  const mixing = (at: string, channels: number) => [
    ...norm(`${at}.norm`, channels),
    ...(jointAttention
      ? conv(`${at}.qkv`, channels, 3 * channels, 1)
      : ['q', 'k', 'v'].flatMap((part) => conv(`${at}.${part}`, channels, channels, 1))),
    ...conv(`${at}.proj_out`, channels, channels, 1),
  ];
  const mid = [
    ...residual(`${name}.mid.0`, levels[last], levels[last]),
    ...mixing(`${name}.mid.1`, levels[last]),
    ...residual(`${name}.mid.2`, levels[last], levels[last]),
  ];
  if (kind === 'encoder') {
    let channels = stem;
    const body = levels.flatMap((to, level) => {
      const at = `${name}.conv_blocks.${level}`;
      const parts = Array.from({ length: blocks }, (_, i) => {
        const block = residual(`${at}.res.${i}`, channels, to);
        channels = to;
        return [...block, ...(level === last ? mixing(`${at}.attn.${i}`, to) : [])];
      });
      return [...parts.flat(), ...(level < last ? conv(`${at}.downsample.conv`, to, to, 3) : [])];
    });
    return [
      ...conv(`${name}.conv_in`, 3, stem, 3),
      ...body,
      ...mid,
      ...norm(`${name}.norm_out`, channels),
      ...conv(`${name}.conv_out`, channels, latentChannels, 3),
    ];
  }
  let channels = levels[last];
  const body = [...levels].reverse().flatMap((to, i) => {
    const at = `${name}.conv_blocks.${i}`;
    const parts = Array.from({ length: blocks + 1 }, (_, j) => {
      const block = residual(`${at}.res.${j}`, channels, to);
      channels = to;
      return [...block, ...(i === 0 ? mixing(`${at}.attn.${j}`, to) : [])];
    });
    return [...parts.flat(), ...(i < last ? conv(`${at}.upsample.conv`, to, to, 3) : [])];
  });
  return [
    ...conv(`${name}.conv_in`, latentChannels, levels[last], 3),
    ...mid,
    ...body,
    ...norm(`${name}.norm_out`, channels),
    ...conv(`${name}.conv_out`, channels, 3, 3),
  ];
}

/** What sizes are read off: names and shapes of weights. */
export type WeightShapes = ReadonlyMap<string, { readonly shape: readonly number[] }>;

/**
 * The sizes of an encoder or decoder, read off the names and shapes of its weights. What does not fit shows when the
 * weights are checked against the parameters.
 * @throws DetailFlowError `weights` where the names are none of such a network
 */
export function convTowerConfig(
  kind: 'encoder' | 'decoder',
  weights: WeightShapes,
  { name = kind, file }: { readonly name?: string; readonly file?: string } = {},
): ConvTowerConfig {
  const extentOf = (weight: string, axis: number): number => {
    const extent = weights.get(`${name}.${weight}`)?.shape[axis];
    if (extent !== undefined) return extent;
    throw new DetailFlowError('weights', `there is no such weight, or it has no axis ${axis}`, {
      file,
      entry: `${name}.${weight}`,
    });
  };
  const count = (prefix: string, suffix: string): number => {
    let n = 0;
    while (n < MOST_PARTS && weights.has(`${name}.${prefix}${n}${suffix}`)) n++;
    return n;
  };
  const levels = count('conv_blocks.', '.res.0.conv1.weight');
  const found = Array.from({ length: levels }, (_, i) => extentOf(`conv_blocks.${i}.res.0.conv1.weight`, 0));
  if (levels === 0) extentOf('conv_blocks.0.res.0.conv1.weight', 0);
  const blocks = count('conv_blocks.0.res.', '.conv1.weight');
  const jointAttention = weights.has(`${name}.mid.1.qkv.weight`);
  return kind === 'encoder'
    ? {
        ...{ channels: found, blocks, jointAttention, stem: extentOf('conv_in.weight', 0) },
        latentChannels: extentOf('conv_out.weight', 0),
      }
    : {
        ...{ channels: found.reverse(), blocks: blocks - 1, jointAttention },
        latentChannels: extentOf('conv_in.weight', 1),
      };
}

/** More levels or blocks than any such network has. */
const MOST_PARTS = 64;

function middle(p: Parameters, name: string, x: Value, config: ConvTowerConfig): Value {
  const channels = x.shape[1] as number;
  const first = residualBlock(p, `${name}.mid.0`, x, channels);
  return residualBlock(p, `${name}.mid.2`, attentionBlock(p, `${name}.mid.1`, first, config), channels);
}

const ending = (p: Parameters, name: string, x: Value): Value =>
  convolution(p, `${name}.conv_out`, silu(groupNorm(p, `${name}.norm_out`, x, NORM)), { padding: 1 });

/** [B, a, H, W] -> [B, b, H, W]. */
function residualBlock(p: Parameters, name: string, x: Value, channels: number): Value {
  let h = convolution(p, `${name}.conv1`, silu(groupNorm(p, `${name}.norm1`, x, NORM)), { padding: 1 });
  h = convolution(p, `${name}.conv2`, silu(groupNorm(p, `${name}.norm2`, h, NORM)), { padding: 1 });
  return add(x.shape[1] === channels ? x : convolution(p, `${name}.nin_shortcut`, x), h);
}

/** One head over all places: [B, C, H, W] -> [B, C, H, W]. */
function attentionBlock(p: Parameters, name: string, x: Value, { jointAttention }: ConvTowerConfig): Value {
  const [batch, channels] = x.shape;
  const [height, width] = sides(x);
  const n = groupNorm(p, `${name}.norm`, x, NORM);
  const count = channels as number;
  const joint = jointAttention ? convolution(p, `${name}.qkv`, n) : undefined;
  const [q, k, v] = ['q', 'k', 'v'].map((part, i) => {
    const map = joint ? slice(joint, 1, i * count, (i + 1) * count) : convolution(p, `${name}.${part}`, n);
    return transpose(reshape(map, [batch, 1, count, height * width]), [0, 1, 3, 2]); // [B, 1, HW, C]
  });
  const mixed = attention(q, k, v, { scale: count ** -0.5 });
  const map = reshape(transpose(mixed, [0, 1, 3, 2]), [batch, count, height, width]);
  return add(x, convolution(p, `${name}.proj_out`, map));
}
