import { type VitConfig, vitConfigOf } from '@detailflow/blocks';
import type { ConfigObject } from '@detailflow/checkpoint';
import { ConfigFields, checkOptions, DetailFlowError, type Weights } from '@detailflow/core';
import { checkedConfig, type LatentKind, type SoftVqConfig } from './config';
import { requireSizes, sizesOfModel, type TowerSettings } from './towers';

/** Sizes of towers that differ from their names, and files for messages. */
export interface ReleasedConfigOptions {
  readonly towers?: TowerSettings;
  /** The file that the weights lie in, and the one that the arguments stand in, for messages. */
  readonly file?: string;
  readonly argsFile?: string;
}

/**
 * The configuration of a tokenizer from its weights and its arguments: a released config.json, or the config.yaml of a training
 * run, which names some of them otherwise. Sizes are read off the weights and must be those that are said; the kind stands in
 * no file and is told by the weights. Source: docs/family/softvq.md section 5.
 * @throws DetailFlowError `config`, `weights`, or `unsupported` for what no known tokenizer uses
 */
export function softVqConfigOf(
  weights: Weights,
  args: ConfigObject,
  options: ReleasedConfigOptions = {},
): SoftVqConfig {
  checkOptions('softVqConfigOf', options, { towers: true, file: true, argsFile: true });
  const { towers = {}, file, argsFile = file } = options;
  const fields = new ConfigFields(args, { file: argsFile });
  fields.expect('enc_type', 'vit');
  fields.expect('dec_type', 'vit');
  fields.expect('to_pixel', 'linear');
  const shapeOf = (entry: string, axes: number): readonly number[] => {
    const shape = weights.get(entry)?.shape;
    if (shape?.length === axes && shape.every((extent) => extent > 0)) return shape;
    throw new DetailFlowError('weights', `there is no such weight of ${axes} axes`, { file, entry });
  };
  const [, latentDim] = shapeOf('post_quant_conv.weight', 2);
  const tokens = shapeOf('encoder.latent_tokens', 3)[1];
  const imageSize = fields.count('image_size', 256);
  const kind = kindOf(weights, latentDim, file);
  requireNamed(kind, fields.raw('vq_model'), argsFile);
  requireSaid(fields, { num_latent_tokens: tokens, codebook_embed_dim: latentDim }, { file, argsFile });

  const tower = (side: 'encoder' | 'decoder', short: 'enc' | 'dec'): VitConfig => {
    const entry = `${side}_model`;
    const model = fields.raw(entry);
    if (typeof model !== 'string') {
      throw new DetailFlowError('config', 'the name of the transformer is missing', {
        file: argsFile,
        entry,
      });
    }
    const named = sizesOfModel(model, { file: argsFile, entry });
    const said = towers[side] ?? named;
    const key =
      fields.raw(`${short}_patch_size`) === undefined ? `${side}_patch_size` : `${short}_patch_size`;
    const settings = { imageSize, patchSize: fields.count(key, 16), heads: said.heads };
    const source = towers[side] ? 'timm_vit.json' : `${entry} ${JSON.stringify(model)}`;
    requireWidth(weights, side, said.width, { source, file });
    const found = vitConfigOf(weights, `${side}.model.`, settings, { file });
    requireSizes(found, said, { source, entry: `${side}.model`, file });
    return found;
  };
  const encoder = requireClass(tower('encoder', 'enc'), true, { file, entry: 'encoder.model.cls_token' });
  const decoder = requireClass(tower('decoder', 'dec'), fields.flag('dec_cls_token', true), {
    file,
    entry: 'decoder.model.cls_token',
  });
  return checkedConfig(
    {
      ...{ kind, imageSize, tokens, latentDim, encoder, decoder, isRotary: isRotary(fields, argsFile) },
      ...quantiserOf(kind, fields, { shapeOf, file, argsFile }),
      latentMean: fields.number('vq_mean', { least: -1e6, most: 1e6, fallback: 0 }),
      latentDeviation: fields.positive('vq_std', { fallback: 1, largest: 1e6 }),
    },
    argsFile,
  );
}

function kindOf(weights: Weights, latentDim: number, file?: string): LatentKind {
  if (weights.has('quantize.embedding')) return 'soft';
  if (weights.has('quantize.embedding.weight')) return 'vq';
  const rows = weights.get('quant_conv.weight')?.shape[0];
  if (rows === 2 * latentDim) return 'kl';
  if (rows === latentDim) return 'ae';
  throw new DetailFlowError(
    'weights',
    `it gives ${rows ?? 'no'} numbers for each latent of width ${latentDim}: neither a latent nor a mean and a variance`,
    { file, entry: 'quant_conv.weight' },
  );
}

const namedKinds: readonly (readonly [RegExp, LatentKind])[] = [
  [/^soft/i, 'soft'],
  [/^vq/i, 'vq'],
  [/^kl/i, 'kl'],
  [/^ae/i, 'ae'],
];

/** config.yaml says the class of the model: SoftVQ, VQ-16, KL-16, AE-16. */
function requireNamed(kind: LatentKind, name: unknown, file?: string): void {
  if (typeof name !== 'string') return;
  const named = namedKinds.find(([pattern]) => pattern.test(name))?.[1];
  if (named === undefined || named === kind) return;
  throw new DetailFlowError(
    'config',
    `is ${JSON.stringify(name)}, but the weights are of the kind "${kind}"`,
    {
      file,
      entry: 'vq_model',
    },
  );
}

interface Files {
  readonly file?: string;
  readonly argsFile?: string;
}

function requireSaid(
  fields: ConfigFields,
  found: Readonly<Record<string, number>>,
  { file, argsFile }: Files,
): void {
  for (const [name, value] of Object.entries(found)) {
    if (fields.raw(name) === undefined || fields.count(name) === value) continue;
    throw new DetailFlowError(
      'config',
      `is ${fields.count(name)}, but the weights in ${file} have ${value}`,
      {
        file: argsFile,
        entry: name,
      },
    );
  }
}

function requireWidth(
  weights: Weights,
  side: string,
  width: number | undefined,
  { source, file }: { readonly source: string; readonly file?: string },
): void {
  const entry = `${side}.model.norm.weight`;
  const found = weights.get(entry)?.shape[0];
  if (width === undefined || found === undefined || found === width) return;
  throw new DetailFlowError(
    'config',
    `its width is ${found}, ${source} says ${width}; where a transformer has other sizes than its name, a timm_vit.json beside ` +
      'the weights must give embed_dim, num_heads, depth and reg_tokens',
    { file, entry },
  );
}

function requireClass(
  tower: VitConfig,
  hasClass: boolean,
  at: { readonly file?: string; readonly entry: string },
): VitConfig {
  if (tower.hasClass === hasClass) return tower;
  throw new DetailFlowError(
    'weights',
    hasClass ? 'there is no such weight' : 'it is there, but dec_cls_token is false',
    at,
  );
}

function isRotary(fields: ConfigFields, file?: string): boolean {
  const refuse = (message: string, entry: string): never => {
    throw new DetailFlowError('unsupported', message, { file, entry });
  };
  if (fields.flag('use_rope', false)) {
    if (!fields.flag('rope_mixed', false)) {
      refuse(
        'axial rotary positions (use_rope without rope_mixed) cannot be computed, officially neither',
        'rope_mixed',
      );
    }
    return true;
  }
  if (!fields.flag('use_ape', true)) {
    refuse(
      'a decoder without any positions (neither use_ape nor use_rope) cannot be computed, officially neither',
      'use_ape',
    );
  }
  return false;
}

type QuantiserConfig = Pick<SoftVqConfig, 'codebooks' | 'codebookSize' | 'isNormalised' | 'temperature'>;

function quantiserOf(
  kind: LatentKind,
  fields: ConfigFields,
  {
    shapeOf,
    file,
    argsFile,
  }: Files & { readonly shapeOf: (entry: string, axes: number) => readonly number[] },
): QuantiserConfig {
  const isNormalised = fields.flag('codebook_l2_norm', true);
  if (kind === 'soft') {
    const [codebooks, codebookSize] = shapeOf('quantize.embedding', 3);
    requireSaid(fields, { num_codebooks: codebooks, codebook_size: codebookSize }, { file, argsFile });
    return { codebooks, codebookSize, isNormalised, temperature: fields.positive('tau') };
  }
  if (kind === 'vq') {
    const [codebookSize] = shapeOf('quantize.embedding.weight', 2);
    requireSaid(fields, { codebook_size: codebookSize }, { file, argsFile });
    return { codebooks: 1, codebookSize, isNormalised, temperature: 1 };
  }
  return { codebooks: 0, codebookSize: 0, isNormalised: false, temperature: 1 };
}
