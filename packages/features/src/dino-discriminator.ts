import { type VitConfig, vitParameters, vitPatchPlaces } from '@detailflow/blocks';
import {
  add,
  concat,
  conv2d,
  mul,
  type ParameterSpec,
  reshape,
  slice,
  standardise,
  transpose,
  type Value,
} from '@detailflow/core';
import { leakyRelu } from './leaky-relu';
import type { Parameters } from './parameters';
import { VIT, vitDepths, vitLevels } from './vit-network';

/** Images whose statistics a norm takes together. */
const VIRTUAL_BATCH = 8;
const EPSILON = 1e-6;
/** Patches that the second convolution of a head sees at once. */
const KERNEL = 9;

const headsOf = ({ layers }: VitConfig) => [...Array(vitDepths(layers).length + 1).keys()];

/** Names and shapes of what is learned: a head for the embedding, and one for each depth. */
export function dinoDiscriminatorParameters(config: VitConfig): ParameterSpec[] {
  const { width } = config;
  const layer = (name: string, shape: number[]) => [
    { name: `${name}.weight`, shape },
    { name: `${name}.bias`, shape: [shape[0]] },
  ];
  return headsOf(config).flatMap((i) => [
    ...layer(`heads.${i}.first`, [width, width, 1]),
    ...layer(`heads.${i}.first.norm`, [width]),
    ...layer(`heads.${i}.second`, [width, width, KERNEL]),
    ...layer(`heads.${i}.second.norm`, [width]),
    ...layer(`heads.${i}.output`, [1, width, 1]),
  ]);
}

/** Names of the learned weights that are to be divided by their largest singular values: see `spectralNorm`. */
export const dinoSpectralWeights = (config: VitConfig): string[] =>
  headsOf(config).flatMap((i) => ['first', 'second', 'output'].map((name) => `heads.${i}.${name}.weight`));

/** Names and shapes of the frozen network. */
export const dinoFixedParameters = (config: VitConfig): ParameterSpec[] => vitParameters(VIT, config);

/**
 * Judgements of the patches of images by heads on what a frozen vision transformer sees there, high for real ones. A head looks at the
 * patches in row order as a ring; the class token is added to each. Norms are over up to eight images of a batch.
 * @param p weights of the heads, divided by their singular values, and those of the network
 * @param x [B, 3, S, S] in [-1, 1], S being the size of the network
 * @returns [B, 1, heads, patches]
 * Source: Sauer et al., "StyleGAN-T: unlocking the power of GANs for fast large-scale text-to-image synthesis", 2023; of the class token
 * Ranftl et al., "Vision transformers for dense prediction", 2021.
 */
export function dinoDiscriminator(p: Parameters, config: VitConfig, x: Value): Value {
  const { embedding, layers } = vitLevels(p, config, x);
  const judged = [embedding, ...layers].map((sequence, i) =>
    head(p, `heads.${i}`, readout(config, sequence)),
  );
  return concat(judged, 2); // each [B, 1, 1, P]
}

/** Patches with the class token added: [B, E, 1, P]. */
function readout(config: VitConfig, sequence: Value): Value {
  const patches = vitPatchPlaces(config, sequence);
  const told = config.hasClass ? add(patches, slice(sequence, 1, 0, 1)) : patches;
  const [batch, places, width] = told.shape as number[];
  return reshape(transpose(told, [0, 2, 1]), [batch, width, 1, places]);
}

function head(p: Parameters, name: string, x: Value): Value {
  const block = (part: string, value: Value) => {
    const y = overBatch(ring(p, `${name}.${part}`, value));
    const channel = (kind: string) => reshape(p(`${name}.${part}.norm.${kind}`), [y.shape[1], 1, 1]);
    return leakyRelu(add(mul(y, channel('weight')), channel('bias')));
  };
  const first = block('first', x);
  const second = mul(add(block('second', first), first), Math.SQRT1_2);
  return ring(p, `${name}.output`, second);
}

/** A convolution over [B, C, 1, P], whose ends are joined. */
function ring(p: Parameters, name: string, x: Value): Value {
  const weight = p(`${name}.weight`);
  const [to, from, kernel] = weight.shape as number[];
  const places = x.shape[3] as number;
  const reach = (kernel - 1) / 2;
  const joined = reach === 0 ? x : concat([slice(x, 3, places - reach, places), x, slice(x, 3, 0, reach)], 3);
  const y = conv2d(joined, reshape(weight, [to, from, 1, kernel]));
  return add(y, reshape(p(`${name}.bias`), [to, 1, 1]));
}

/** Every channel to mean 0 and variance 1 over its places in parts of a batch, which are as equal as can be. */
function overBatch(x: Value): Value {
  const [batch, channels, , places] = x.shape as number[];
  const parts = Math.ceil(batch / VIRTUAL_BATCH);
  const bounds = Array.from({ length: parts + 1 }, (_, i) => Math.ceil((i * batch) / parts));
  const normal = (start: number, end: number) => {
    const byChannel = transpose(slice(x, 0, start, end), [1, 0, 2, 3]);
    const flat = standardise(reshape(byChannel, [channels, (end - start) * places]), EPSILON);
    return transpose(reshape(flat, [channels, end - start, 1, places]), [1, 0, 2, 3]);
  };
  return concat(
    bounds.slice(1).map((end, i) => normal(bounds[i], end)),
    0,
  );
}
