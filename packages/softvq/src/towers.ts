import type { VitConfig } from '@detailflow/blocks';
import type { ConfigObject } from '@detailflow/checkpoint';
import { ConfigFields, DetailFlowError } from '@detailflow/core';

/** Sizes of a transformer; what is not given is not compared. */
export interface TowerSizes {
  readonly heads: number;
  readonly width?: number;
  readonly layers?: number;
  readonly registers?: number;
}

/** Sizes where they are not those of the model names: what a timm_vit.json beside the weights says. */
export interface TowerSettings {
  readonly encoder?: TowerSizes;
  readonly decoder?: TowerSizes;
  /** The network whose features REPA aligns latents with; training only. */
  readonly repa?: TowerSizes;
}

const officialSizes: Readonly<Record<string, TowerSizes>> = {
  small: { width: 384, heads: 6, layers: 12 },
  base: { width: 768, heads: 12, layers: 12 },
  large: { width: 1024, heads: 16, layers: 24 },
  giant: { width: 1536, heads: 24, layers: 40 },
};

const NAME = /^vit_(small|base|large|giant)_patch14(_reg4)?_dinov2(\.lvd142m)?$/;

/**
 * Sizes by the name of a model: vit_{small,base,large,giant}_patch14_dinov2.lvd142m, or the same with _reg4_. The 14 counts for
 * nothing: the patch size stands apart.
 * @throws DetailFlowError `unsupported` for any other
 */
export function sizesOfModel(
  model: string,
  at: { readonly file?: string; readonly entry?: string },
): TowerSizes {
  const match = NAME.exec(model);
  if (match) return { ...officialSizes[match[1]], registers: match[2] ? 4 : 0 };
  throw new DetailFlowError(
    'unsupported',
    `is ${JSON.stringify(model.slice(0, 100))}; only vit_{small,base,large,giant}_patch14_dinov2.lvd142m, also with _reg4_, can be read`,
    at,
  );
}

/** The model name of a transformer's sizes; not exact where no name has them, and they must be said besides. */
export function modelOfSizes({ width, heads, layers, registers }: TowerSizes): {
  readonly model: string;
  readonly isExact: boolean;
} {
  const found = Object.entries(officialSizes).find(
    ([, size]) => size.width === width && size.heads === heads && size.layers === layers,
  );
  const form = registers ? '_reg4' : '';
  const isExact = found !== undefined && (registers === 0 || registers === 4);
  return { model: `vit_${found?.[0] ?? 'base'}_patch14${form}_dinov2.lvd142m`, isExact };
}

/**
 * Sizes from an object {encoder, decoder, repa} of {num_heads, embed_dim, depth, reg_tokens}, all but num_heads optional.
 * @throws DetailFlowError `config`
 */
export function towerSettings(value: ConfigObject, file?: string): TowerSettings {
  const outer = new ConfigFields(value, { file });
  const sizes = (name: 'encoder' | 'decoder' | 'repa'): TowerSettings => {
    if (outer.raw(name) === undefined) return {};
    const fields = new ConfigFields(outer.raw(name), { file, prefix: name });
    const optional = (field: string) => (fields.raw(field) === undefined ? undefined : fields.count(field));
    const registers = fields.raw('reg_tokens');
    return {
      [name]: {
        heads: fields.count('num_heads'),
        width: optional('embed_dim'),
        layers: optional('depth'),
        registers:
          registers === undefined || registers === 0
            ? (registers as 0 | undefined)
            : fields.count('reg_tokens'),
      },
    };
  };
  return { ...sizes('encoder'), ...sizes('decoder'), ...sizes('repa') };
}

/** @throws DetailFlowError `config` where the weights are of other sizes than is said */
export function requireSizes(
  found: VitConfig,
  said: TowerSizes,
  { source, entry, file }: { readonly source: string; readonly entry: string; readonly file?: string },
): void {
  for (const field of ['width', 'layers', 'registers'] as const) {
    if (said[field] === undefined || said[field] === found[field]) continue;
    throw new DetailFlowError(
      'config',
      `its ${field} ${field === 'width' ? 'is' : 'are'} ${found[field]}, ${source} says ${said[field]}; where a transformer has ` +
        'other sizes than its name, a timm_vit.json beside the weights must give embed_dim, num_heads, depth and reg_tokens',
      { file, entry },
    );
  }
}
