import { type ParameterSpec, Tensor } from '@detailflow/core';
import type { TokenizerConfig } from '@detailflow/tokenizer';
import type { ImageLossContext } from '../tokenizer-graph';
import { type AlignmentRecipe, type AlignmentTarget, alignmentLoss, alignmentSpecs } from './alignment';
import type { LossTerm } from './loss-term';
import {
  type PerceptualNetwork,
  type PerceptualRecipe,
  perceptualDropoutFeeds,
  perceptualFeeds,
  perceptualLoss,
} from './perceptual';
import { type PatchFeatures, type RepaRecipe, repaFeeds, repaLoss, repaSpecs } from './repa';

/** Restored images must look like their targets to a network. */
export function perceptualTerm(
  recipe: PerceptualRecipe,
  network: PerceptualNetwork,
): LossTerm<ImageLossContext> {
  const { levels, side } = network;
  return {
    ...{ name: 'perceptual', specs: [], weights: network.weights },
    loss: ({ graph, pixels, target }) => perceptualLoss(graph, network, pixels, target, recipe),
    async feeds({ seed, step, canvas, size, isCorrected }, { place, images }) {
      const restored = (isCorrected ? 2 : 1) * images.dims[0];
      return {
        ...perceptualFeeds(recipe, { step, canvas, size, levels, side }),
        ...(recipe.dropout &&
          perceptualDropoutFeeds(network, { seed, step, place, images: restored, canvas })),
      };
    },
  };
}

/**
 * The first token must tell the features of an image.
 * @param options.seesTarget with REPA the features are those of what should be decoded, where that has the size of the images, as in
 *   the official training
 */
export function alignmentTerm(
  { weight }: AlignmentRecipe,
  network: AlignmentTarget,
  { config, seesTarget }: { readonly config: TokenizerConfig; readonly seesTarget: boolean },
): LossTerm {
  const { width } = network;
  return {
    ...{ name: 'alignment', specs: alignmentSpecs(config.codebookDim, width) },
    loss: ({ graph, parameter, outputs }) =>
      alignmentLoss(graph, parameter, outputs.quantised, { weight, width }),
    async feeds({ canvas, size }, { images, target }) {
      const seen = seesTarget && size === canvas ? target : images;
      return { alignmentTarget: await network.features(seen) };
    },
  };
}

/** The decoder's patches must tell the features of what they draw. */
export function repaTerm(recipe: RepaRecipe, network: PatchFeatures, config: TokenizerConfig): LossTerm {
  const { width } = network;
  const { decoder } = config;
  const specs: ParameterSpec[] = repaSpecs(decoder.width, recipe.width, width);
  return {
    ...{ name: 'repa', specs, hiddenLayer: recipe.layer },
    loss({ graph, parameter, pixels, outputs }) {
      const [images] = pixels.shape as number[];
      const batch = outputs.fresh ? images / 2 : images;
      if (!outputs.hidden) throw new Error('the decoder has no such layer');
      return repaLoss(graph, parameter, outputs.hidden, { batch, width, weight: recipe.weight });
    },
    async feeds({ canvas, size }, { target }) {
      const features = await network.features(corner(target, size));
      return repaFeeds(features, canvas / decoder.patchSize);
    },
  };
}

/** The top left corner of images. */
function corner({ data, dims }: Tensor, size: number): Tensor {
  const [batch, channels, height, width] = dims;
  if (size === width) return new Tensor('float32', data as Float32Array, dims);
  const out = new Float32Array(batch * channels * size * size);
  for (let row = 0; row < batch * channels * size; row++) {
    const at = (Math.floor(row / size) * height + (row % size)) * width;
    out.set((data as Float32Array).subarray(at, at + size), row * size);
  }
  return new Tensor('float32', out, [batch, channels, size, size]);
}
