import { DetailFlowError, type ParameterSpec, type Weights } from '@detailflow/core';

/** Everything that determines the graph of a vision transformer, in timm's form of it. */
export interface VitConfig {
  /** Side of the images in pixels. There are (imageSize / patchSize)^2 patches. */
  readonly imageSize: number;
  readonly patchSize: number;
  readonly width: number;
  readonly heads: number;
  readonly layers: number;
  /** Inner width of the feed-forward parts, after the gate. */
  readonly hiddenDim: number;
  /** `gelu`: its exact form; `swiglu`: silu(first half) * second half, as in DINOv2's giant. */
  readonly feedForward: 'gelu' | 'swiglu';
  /** Whether a class token stands before the patches. */
  readonly hasClass: boolean;
  /** Register tokens between the class token and the patches. */
  readonly registers: number;
  /**
   * Rows of the position table: `patches`, or `class-and-patches`, whose first row is the class token's and stays in the table
   * of a model without one.
   */
  readonly positions: 'patches' | 'class-and-patches';
  /** Whether each branch is scaled by a vector before it is added. */
  readonly isScaled: boolean;
}

/** What the names and shapes of weights do not say. */
export interface VitSettings {
  readonly imageSize: number;
  readonly patchSize: number;
  readonly heads: number;
}

/** Patches in a row, in a column. */
export const patchesPerSide = ({ imageSize, patchSize }: VitConfig): number => imageSize / patchSize;

/** Tokens before the patches. */
export const prefixTokens = ({ hasClass, registers }: VitConfig): number => Number(hasClass) + registers;

/** LayerNorm's. */
export const VIT_NORM_EPSILON = 1e-6;

const MOST_LAYERS = 1024;
/** Attention to more patches than this is no model of this kind. */
const MOST_PATCHES = 1 << 16;

/**
 * The configuration of a vision transformer whose weights begin with `prefix` (`encoder.model.`): sizes are read off names and
 * shapes, the rest must be told.
 * @throws DetailFlowError `weights` or `config`
 */
export function vitConfigOf(
  weights: Weights,
  prefix: string,
  { imageSize, patchSize, heads }: VitSettings,
  { file }: { readonly file?: string } = {},
): VitConfig {
  const shapeOf = (name: string, axes: number): readonly number[] => {
    const shape = weights.get(`${prefix}${name}`)?.shape;
    if (shape?.length === axes && shape.every((extent) => extent > 0)) return shape;
    throw new DetailFlowError('weights', `there is no such weight of ${axes} axes`, {
      file,
      entry: `${prefix}${name}`,
    });
  };
  const fail = (message: string, entry = prefix.replace(/\.$/, '')): never => {
    throw new DetailFlowError('config', message, { file, entry });
  };
  const [width] = shapeOf('norm.weight', 1);
  if (!Number.isInteger(heads) || heads < 1 || width % heads !== 0) {
    fail(`a width of ${width} cannot be divided into ${heads} heads`);
  }
  const side = imageSize / patchSize;
  if (!Number.isInteger(side) || side < 1 || side * side > MOST_PATCHES) {
    fail(
      `images of ${imageSize} pixels do not consist of 1 to ${MOST_PATCHES} patches of ${patchSize} x ${patchSize}`,
    );
  }
  let layers = 0;
  while (layers < MOST_LAYERS && weights.has(`${prefix}blocks.${layers}.attn.qkv.weight`)) layers++;
  const [inner] = shapeOf('blocks.0.mlp.fc1.weight', 2);
  const [, hiddenDim] = shapeOf('blocks.0.mlp.fc2.weight', 2);
  if (inner !== hiddenDim && inner !== 2 * hiddenDim) {
    fail(
      `it has ${inner} rows, the next matrix takes ${hiddenDim} columns: neither a plain nor a gated feed-forward part`,
      `${prefix}blocks.0.mlp.fc1.weight`,
    );
  }
  const registers = weights.has(`${prefix}reg_token`) ? shapeOf('reg_token', 3)[1] : 0;
  const rows = shapeOf('pos_embed', 3)[1];
  if (rows !== side * side && rows !== side * side + 1) {
    fail(
      `it has positions for ${rows} places; ${side} x ${side} patches of ${patchSize} pixels need ${side * side}, or one more`,
      `${prefix}pos_embed`,
    );
  }
  return {
    ...{ imageSize, patchSize, width, heads, layers, hiddenDim, registers },
    feedForward: inner === hiddenDim ? 'gelu' : 'swiglu',
    hasClass: weights.has(`${prefix}cls_token`),
    positions: rows === side * side ? 'patches' : 'class-and-patches',
    isScaled: weights.has(`${prefix}blocks.0.ls1.gamma`),
  };
}

/** Names, timm's behind `prefix`, and shapes of every weight. */
export function vitParameters(prefix: string, config: VitConfig): ParameterSpec[] {
  const { width, hiddenDim, patchSize, registers, hasClass, layers, isScaled } = config;
  const spec = (name: string, ...shape: number[]) => ({ name: `${prefix}${name}`, shape });
  const affine = (name: string, size: number) => [spec(`${name}.weight`, size), spec(`${name}.bias`, size)];
  const matrix = (name: string, out: number, into: number) => [
    spec(`${name}.weight`, out, into),
    spec(`${name}.bias`, out),
  ];
  const gated = config.feedForward === 'swiglu' ? 2 : 1;
  const block = (i: number) => [
    ...affine(`blocks.${i}.norm1`, width),
    ...matrix(`blocks.${i}.attn.qkv`, 3 * width, width),
    ...matrix(`blocks.${i}.attn.proj`, width, width),
    ...(isScaled ? [spec(`blocks.${i}.ls1.gamma`, width)] : []),
    ...affine(`blocks.${i}.norm2`, width),
    ...matrix(`blocks.${i}.mlp.fc1`, gated * hiddenDim, width),
    ...matrix(`blocks.${i}.mlp.fc2`, width, hiddenDim),
    ...(isScaled ? [spec(`blocks.${i}.ls2.gamma`, width)] : []),
  ];
  const rows = patchesPerSide(config) ** 2 + Number(config.positions === 'class-and-patches');
  return [
    ...(hasClass ? [spec('cls_token', 1, 1, width)] : []),
    ...(registers > 0 ? [spec('reg_token', 1, registers, width)] : []),
    spec('pos_embed', 1, rows, width),
    spec('patch_embed.proj.weight', width, 3, patchSize, patchSize),
    spec('patch_embed.proj.bias', width),
    ...Array.from({ length: layers }, (_, i) => block(i)).flat(),
    ...affine('norm', width),
  ];
}
