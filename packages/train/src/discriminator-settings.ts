import { type ConfigFields, DetailFlowError } from '@detailflow/core';
import type { BlurDiscriminatorConfig, PatchDiscriminatorConfig } from '@detailflow/features';
import { given } from './settings-values';

/** Which discriminator an adversarial loss plays against; a PatchGAN has no `kind`. */
export type DiscriminatorConfig =
  | (PatchDiscriminatorConfig & { readonly kind?: undefined })
  | (BlurDiscriminatorConfig & { readonly kind: 'maskbit' })
  | { readonly kind: 'stylegan'; readonly width: number }
  | { readonly kind: 'dino' };

/** Settings that only some discriminators have, and which. */
const owners = {
  width: ['patchgan', 'stylegan', 'maskbit'],
  layers: ['patchgan', 'maskbit'],
  norm: ['patchgan', 'maskbit'],
};

/** The most that networks are made of: far more than any has. */
const limits = { width: 4096, layers: 12 };

/** Settings of {@link parseDiscriminator}. */
export const discriminatorFields = ['discriminator', ...Object.keys(owners)];

/**
 * The settings of the discriminator among those of `tokenizer.adversarial`.
 * @throws DetailFlowError `config` naming the setting, also where it is one of another discriminator
 */
export function parseDiscriminator(fields: ConfigFields | undefined, file?: string): DiscriminatorConfig {
  const kind =
    fields?.choice('discriminator', ['patchgan', 'dino', 'stylegan', 'maskbit'], 'patchgan') ?? 'patchgan';
  for (const [name, kinds] of Object.entries(owners)) {
    if (kinds.includes(kind) || fields?.raw(name) === undefined) continue;
    throw new DetailFlowError('config', `is a setting of ${kinds.join(', ')}; the discriminator is ${kind}`, {
      ...{ file, entry: `tokenizer.adversarial.${name}` },
    });
  }
  if (kind === 'dino') return { kind };
  const count = (name: keyof typeof limits, fallback: number) => {
    const value = fields?.count(name, fallback) ?? fallback;
    if (value <= limits[name]) return value;
    throw new DetailFlowError('config', `is ${value}; must be a whole number from 1 to ${limits[name]}`, {
      ...{ file, entry: `tokenizer.adversarial.${name}` },
    });
  };
  const width = count('width', 64);
  if (kind === 'stylegan') return { kind, width };
  const layers = count('layers', 3);
  const norm = <T extends string>(...words: readonly T[]) =>
    fields && given<{ norm: T }>(fields, { norm: () => fields.choice<T>('norm', words) });
  if (kind === 'maskbit') return { kind, width, layers, ...norm('group', 'none') };
  return { width, layers, ...norm('image', 'batch') };
}
