import { DetailFlowError } from '@detailflow/core';
import type { TokenizerConfig } from '@detailflow/tokenizer';
import type { ImageLossContext } from '../tokenizer-graph';
import type { TokenizerRecipe } from '../tokenizer-recipe';
import { judgementSize } from './adversarial';
import type { AlignmentTarget } from './alignment';
import type { Discriminator } from './discriminator';
import type { LossTerm } from './loss-term';
import type { PerceptualNetwork } from './perceptual';
import type { PatchFeatures } from './repa';
import { alignmentTerm, perceptualTerm, repaTerm } from './terms';

/** Networks that losses need; a recipe with the loss demands its network. */
export interface LossNetworks {
  /** See {@link lpipsNetwork}, {@link classifierNetwork} and {@link vitNetwork}. */
  readonly perceptual?: PerceptualNetwork;
  readonly discriminator?: Discriminator;
  readonly alignment?: AlignmentTarget;
  /** Its patches are as large as the decoder's. */
  readonly repa?: PatchFeatures;
}

/**
 * The terms of a recipe, in the order in which they are added.
 * @throws DetailFlowError `config` when a loss of the recipe has no network, or one that does not fit
 */
export function lossTerms(
  config: TokenizerConfig,
  recipe: TokenizerRecipe,
  networks: LossNetworks,
): readonly LossTerm[] {
  const { alignment, repa } = recipe;
  const terms: LossTerm[] = [...imageLossTerms(recipe, networks)];
  if (alignment) {
    const network = needed(networks.alignment, 'alignment needs a network whose features are to be told');
    // Where only the decoder learns, the first token does not.
    if (!recipe.finetuneDecoder)
      terms.push(alignmentTerm(alignment, network, { config, seesTarget: repa !== undefined }));
  }
  if (repa) {
    const network = needed(networks.repa, 'REPA needs a network that sees features at patches: SigLIP2');
    checkRepa(repa.layer, network, config);
    terms.push(repaTerm(repa, network, config));
  }
  return terms;
}

/**
 * The terms that any tokenizer can have.
 * @throws DetailFlowError `config` when a loss of the recipe has no network
 */
export function imageLossTerms(
  { perceptual, adversarial }: Pick<TokenizerRecipe, 'perceptual' | 'adversarial'>,
  networks: Pick<LossNetworks, 'perceptual' | 'discriminator'>,
): readonly LossTerm<ImageLossContext>[] {
  if (adversarial) needed(networks.discriminator, 'the adversarial loss needs a discriminator');
  if (!perceptual) return [];
  const what =
    'the perceptual loss needs its network: VGG16 and LPIPS, a classifier, or a vision transformer';
  const network = needed(networks.perceptual, what);
  if (perceptual.dropout && !network.widths) {
    throw new DetailFlowError('config', 'only the heads of LPIPS have dropout: leave it out, or take vgg', {
      entry: 'tokenizer.perceptual.dropout',
    });
  }
  return [perceptualTerm(perceptual, network)];
}

/**
 * Whether images of so many pixels, the fewest that there are, can be judged: told at once, not when the discriminator begins.
 * @throws DetailFlowError `config`
 */
export function requireJudgeable(
  { adversarial }: Pick<TokenizerRecipe, 'adversarial'>,
  { discriminator }: Pick<LossNetworks, 'discriminator'>,
  size: number,
): void {
  if (adversarial && discriminator) judgementSize(discriminator, size);
}

function needed<T>(network: T | undefined, message: string): T {
  if (network) return network;
  throw new DetailFlowError('config', `${message}; give it, or take the loss out of the recipe`);
}

function checkRepa(layer: number, { patchSize }: PatchFeatures, { decoder }: TokenizerConfig): void {
  if (patchSize !== decoder.patchSize) {
    throw new DetailFlowError(
      'config',
      `the network of REPA has patches of ${patchSize} pixels, the decoder of ${decoder.patchSize}: they must be equal`,
      { entry: 'tokenizer.repa' },
    );
  }
  if (layer < decoder.layers) return;
  throw new DetailFlowError('config', `is ${layer}; the decoder has the layers 0 to ${decoder.layers - 1}`, {
    entry: 'tokenizer.repa.layer',
  });
}
