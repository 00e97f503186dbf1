import {
  add,
  attention,
  broadcastTo,
  concat,
  cos,
  DetailFlowError,
  type Dim,
  extent,
  geluExact,
  layerNorm,
  linear,
  matmul,
  mul,
  reshape,
  rope,
  silu,
  sin,
  slice,
  swapHeads,
  transpose,
  type Value,
} from '@detailflow/core';
import type { Parameters } from './parameters';
import { patchesPerSide, prefixTokens, VIT_NORM_EPSILON, type VitConfig } from './vit-config';

// Shapes: B batch, p side of a patch, P = n n patches, E width, H heads, L places of a sequence. `name` is what the weights of
// the transformer begin with: `encoder.model.`.

/** Rotary tables of a sequence, [L, E/2] for each layer: all heads side by side. */
export type LayerRotation = (layer: number) => { readonly cos: Value; readonly sin: Value };

/** Images [B, 3, n p, n p] -> patches in row order, [B, P, E]. */
export function vitPatches(p: Parameters, name: string, config: VitConfig, images: Value): Value {
  const { patchSize: size, width } = config;
  const side = patchesPerSide(config);
  const batch = extent(images, 0);
  const cells = transpose(reshape(images, [batch, 3, side, size, side, size]), [0, 2, 4, 1, 3, 5]);
  const weight = reshape(p(`${name}patch_embed.proj.weight`), [width, 3 * size * size]);
  return linear(
    reshape(cells, [batch, side * side, 3 * size * size]),
    weight,
    p(`${name}patch_embed.proj.bias`),
  );
}

/**
 * What stands at the patches [B, P, E] -> [class ; registers ; patches], with the table of positions unless `isPlaced` is false.
 * A table with a row for the class token is added to the class token as well; a table of patches to patches only.
 */
export function vitSequence(
  p: Parameters,
  name: string,
  config: VitConfig,
  patches: Value,
  { isPlaced = true }: { readonly isPlaced?: boolean } = {},
): Value {
  const { width, hasClass, registers, positions } = config;
  const batch = extent(patches, 0);
  const row = (token: string, count: number) => broadcastTo(p(`${name}${token}`), [batch, count, width]);
  const tokens = [
    ...(hasClass ? [row('cls_token', 1)] : []),
    ...(registers > 0 ? [row('reg_token', registers)] : []),
  ];
  if (!isPlaced) return concat([...tokens, patches], 1);
  const table = p(`${name}pos_embed`);
  if (positions === 'patches') return concat([...tokens, add(patches, table)], 1);
  if (tokens.length !== 1 || !hasClass) {
    throw new DetailFlowError(
      'unsupported',
      'the table of positions has a row for a class token, which this model does not have alone before its patches',
      { entry: `${name}pos_embed` },
    );
  }
  return add(concat([...tokens, patches], 1), table);
}

/** All blocks and the last norm over a sequence [B, L, E] that everybody sees whole. */
export function vitBlocks(
  p: Parameters,
  name: string,
  config: VitConfig,
  sequence: Value,
  rotation?: LayerRotation,
): Value {
  let x = sequence;
  for (let layer = 0; layer < config.layers; layer++) x = vitBlock(p, name, config, x, layer, rotation);
  return norm(p, `${name}norm`, x);
}

/** One block: x + gamma attention(norm(x)), then x + gamma mlp(norm(x)). */
export function vitBlock(
  p: Parameters,
  name: string,
  config: VitConfig,
  x: Value,
  layer: number,
  rotation?: LayerRotation,
): Value {
  const block = `${name}blocks.${layer}.`;
  const scaled = (branch: Value, which: string) =>
    config.isScaled ? mul(branch, p(`${block}${which}.gamma`)) : branch;
  const mixed = selfAttention(p, block, config, norm(p, `${block}norm1`, x), rotation?.(layer));
  const y = add(x, scaled(mixed, 'ls1'));
  return add(y, scaled(feedForward(p, block, config, norm(p, `${block}norm2`, y)), 'ls2'));
}

/** Images -> the last norm's outputs at the patches, [B, P, E]: what features of DINO are. */
export function vitFeatures(p: Parameters, name: string, config: VitConfig, images: Value): Value {
  const x = vitBlocks(p, name, config, vitSequence(p, name, config, vitPatches(p, name, config, images)));
  return vitPatchPlaces(config, x);
}

/** The places of the patches of a sequence that begins with class token and registers. */
export function vitPatchPlaces(config: VitConfig, sequence: Value): Value {
  const start = prefixTokens(config);
  return slice(sequence, 1, start, start + patchesPerSide(config) ** 2);
}

/**
 * Rotations by mixed frequencies: pair i of head h of the patch in column x and row y turns by
 * x freqs[0, layer, i] + y freqs[1, layer, i], with the pairs of all heads side by side; other places stay.
 * @param frequencies [2, layers, E/2]
 * @param length L: class and registers, patches, and what follows
 */
export function mixedRotation(config: VitConfig, frequencies: Value, length: number): LayerRotation {
  const { width } = config;
  const side = patchesPerSide(config);
  const start = prefixTokens(config);
  const cells = new Float64Array(2 * length);
  for (let j = 0; j < side * side; j++) {
    cells[2 * (start + j)] = j % side;
    cells[2 * (start + j) + 1] = Math.floor(j / side);
  }
  const places = frequencies.graph.constant(cells, [length, 2]);
  return (layer) => {
    const ofLayer = reshape(slice(frequencies, 1, layer, layer + 1), [2, width / 2]);
    const angles = matmul(places, ofLayer); // [L, E/2]
    return { cos: cos(angles), sin: sin(angles) };
  };
}

function selfAttention(
  p: Parameters,
  block: string,
  { width, heads }: VitConfig,
  x: Value,
  rotation?: { readonly cos: Value; readonly sin: Value },
): Value {
  const [batch, length] = x.shape as [Dim, Dim];
  const joint = linear(x, p(`${block}attn.qkv.weight`), p(`${block}attn.qkv.bias`)); // [B, L, 3 E]
  const part = (index: number) => slice(joint, -1, index * width, (index + 1) * width);
  const byHead = (value: Value) => swapHeads(reshape(value, [batch, length, heads, width / heads]));
  const turned = (value: Value) =>
    rotation ? rope(reshape(value, [batch, length, 1, width]), rotation.cos, rotation.sin) : value;
  const out = attention(byHead(turned(part(0))), byHead(turned(part(1))), byHead(part(2)), {
    scale: (width / heads) ** -0.5,
  });
  const joined = reshape(swapHeads(out), [batch, length, width]);
  return linear(joined, p(`${block}attn.proj.weight`), p(`${block}attn.proj.bias`));
}

function feedForward(p: Parameters, block: string, config: VitConfig, x: Value): Value {
  const { hiddenDim } = config;
  const inner = linear(x, p(`${block}mlp.fc1.weight`), p(`${block}mlp.fc1.bias`));
  const active =
    config.feedForward === 'gelu'
      ? geluExact(inner)
      : mul(silu(slice(inner, -1, 0, hiddenDim)), slice(inner, -1, hiddenDim, 2 * hiddenDim));
  return linear(active, p(`${block}mlp.fc2.weight`), p(`${block}mlp.fc2.bias`));
}

const norm = (p: Parameters, name: string, x: Value): Value =>
  layerNorm(x, p(`${name}.weight`), p(`${name}.bias`), VIT_NORM_EPSILON);
