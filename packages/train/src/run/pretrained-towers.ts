import { siglipTowerParameters, siglipVisionParameters } from '@detailflow/blocks';
import { DetailFlowError, readFloat32, type Weight } from '@detailflow/core';
import { readSiglip } from '@detailflow/eval/node';
import { SIGLIP } from '@detailflow/features';
import type { TokenizerConfig } from '@detailflow/tokenizer';
import type { Arrays } from '../initialise';

/** Which towers begin with those of SigLIP2 (`encoder_pretrained`, `decoder_pretrained`). */
export interface PretrainedTowers {
  readonly encoder: boolean;
  readonly decoder: boolean;
}

/**
 * The first layers of SigLIP2's vision tower, its positions, its last norm, and where patches are as large its patch embedding, under
 * the names of a tokenizer's towers.
 * @throws DetailFlowError `config` when a tower has more layers, or other widths or heads; as `readSiglip`
 */
export async function pretrainedTowers(
  source: string,
  config: TokenizerConfig,
  which: PretrainedTowers,
): Promise<Arrays> {
  const arrays: Arrays = new Map();
  for (const name of ['encoder', 'decoder'] as const) {
    if (!which[name]) continue;
    const tower = config[name];
    const { config: found, weights } = await readSiglip(source, { layers: tower.layers });
    for (const size of ['width', 'heads', 'mlpWidth', 'positionGrid'] as const) {
      if (found[size] === tower[size]) continue;
      throw new DetailFlowError(
        'config',
        `is ${tower[size]}, that of SigLIP2 is ${found[size]}: they must be equal`,
        {
          ...{ file: source, entry: `tokenizer.model.${name}.${size}` },
        },
      );
    }
    const hasPatches = name === 'encoder' && found.patchSize === tower.patchSize;
    const specs = hasPatches ? siglipVisionParameters(SIGLIP, found) : siglipTowerParameters(SIGLIP, found);
    for (const spec of specs) {
      const weight = weights.get(spec.name) as Weight; // readSiglip has looked
      arrays.set(`${name}.visual_model${spec.name.slice(SIGLIP.length)}`, await readFloat32(weight));
    }
  }
  return arrays;
}
