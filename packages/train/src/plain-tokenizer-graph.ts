import type { TrainableTokenizer } from '@detailflow/blocks';
import { add, checkOptions, type Graph, mul, trace, type Value } from '@detailflow/core';
import { gradients } from '@detailflow/core/gradients';
import { accumulateGradients, sharedParameters } from './optimiser';
import type { PlainTokenizerRecipe } from './plain-tokenizer-recipe';
import { type ImageLossContext, pixelDistance } from './tokenizer-graph';

/** What the graph of a step of a tokenizer of whole images is made of. */
export interface PlainTokenizerGraphOptions {
  readonly model: TrainableTokenizer;
  /** Images of one run, B. */
  readonly microBatch: number;
  readonly recipe: Pick<PlainTokenizerRecipe, 'pixelLoss' | 'pixelWeight' | 'quantiser'>;
  /** Whether a parameter is left as it is; none if omitted. */
  readonly isFrozen?: (name: string) => boolean;
  /** More terms of the loss, each [1]; they are outputs of the graph by their names. */
  readonly extraLosses?: (context: ImageLossContext) => Readonly<Record<string, Value>>;
  /** Whether the restored pixels are an output. */
  readonly outputPixels?: boolean;
}

/**
 * Loss and gradients of one micro-batch of a tokenizer that restores whole images, added to the gradient buffers.
 * Feeds: images f32 [B, 3, S, S] in [-1, 1], and those of extra losses. Outputs: loss, reconstruction, vq, commit, entropy and the
 * extra losses, each [1]; codes i32 [B, N]; vectors [B, N, d]; pixels where they are asked for.
 */
export function plainTokenizerStepGraph(options: PlainTokenizerGraphOptions): Graph {
  checkOptions('plainTokenizerStepGraph', options, {
    ...{ model: true, microBatch: true, recipe: true, isFrozen: true, extraLosses: true, outputPixels: true },
  });
  const { model, microBatch, recipe, isFrozen = () => false } = options;
  const { imageSize: size, specs } = model;
  const { pixelLoss, pixelWeight = 1, quantiser } = recipe;
  const learned = specs.filter(({ name }) => !isFrozen(name));
  return trace((graph) => {
    const parameter = sharedParameters(graph, specs);
    const target = graph.input('images', 'f32', [microBatch, 3, size, size]);
    const weights = new Float32Array(size * size).fill(1 / size ** 2);
    const pixelWeights = graph.constant(weights, [1, 1, size, size]);
    const { pixels, codes, vectors, vq, commit, entropy } = model.losses(parameter, target, quantiser);
    const distance = pixelDistance(pixels, target, pixelWeights, pixelLoss);
    const reconstruction = pixelWeight === 1 ? distance : mul(distance, pixelWeight);
    const context = { graph, parameter, pixels, target, pixelWeights, reconstruction };
    const extra = options.extraLosses?.(context) ?? {};
    const loss = [reconstruction, vq, commit, entropy, ...Object.values(extra)].reduce(add);
    const found = gradients(
      loss,
      learned.map(({ name }) => parameter(name)),
    );
    accumulateGradients(graph, learned, found);
    const outputs = { loss, reconstruction, vq, commit, entropy, ...extra, codes, vectors };
    return { ...outputs, ...(options.outputPixels && { pixels }) };
  });
}
