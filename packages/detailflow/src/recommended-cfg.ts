import type { BundleCard } from '@detailflow/checkpoint';
import { DetailFlowError } from '@detailflow/core';

/** Where neither a card nor a kind of model recommends another. */
export const DEFAULT_CFG = 1.5;

/**
 * The guidance scale that a model's card recommends, `recipe.cfg`; undefined where it names none.
 * @throws DetailFlowError `format` for one that is no number from 0
 */
export function recommendedCfg(card: BundleCard | undefined): number | undefined {
  const cfg: unknown = card?.recipe?.cfg;
  if (cfg === undefined) return undefined;
  if (typeof cfg === 'number' && Number.isFinite(cfg) && cfg >= 0) return cfg;
  throw new DetailFlowError('format', 'must be a number from 0', {
    file: 'config.json',
    entry: 'recipe.cfg',
  });
}
