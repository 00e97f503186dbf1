import {
  add,
  checkOptions,
  concat,
  type Graph,
  type GraphBuilder,
  maximum,
  mul,
  neg,
  type ParameterSpec,
  reshape,
  resizeMatrix,
  sub,
  sum,
  trace,
  type Value,
} from '@detailflow/core';
import { gradients } from '@detailflow/core/gradients';
import { attentionMask, type TokenizerConfig, tokenizerParameters } from '@detailflow/tokenizer';
import {
  type QuantiserLossOptions,
  type TrainingOutputs,
  trainingForward,
} from '@detailflow/tokenizer/training';
import { accumulateGradients, sharedParameters } from './optimiser';
import type { StepImages } from './step-size';

/** How pixels are compared: squared or absolute differences. */
export type PixelLoss = 'l2' | 'l1';

/** What the graph of a tokenizer's step is made of. */
export interface TokenizerGraphOptions {
  readonly config: TokenizerConfig;
  /** Images of one run, B. */
  readonly microBatch: number;
  /** The graph of a self-correction step. */
  readonly correction: boolean;
  /** Side and tokens of the images; full ones if omitted. Every size is a graph of its own. */
  readonly image?: StepImages;
  readonly pixelLoss?: PixelLoss;
  /** Factor of the distance of pixels; default 1. */
  readonly pixelWeight?: number;
  /** Layer of the decoder, from 0, whose patches further losses are made of. */
  readonly hiddenLayer?: number;
  readonly quantiser?: QuantiserLossOptions;
  /** Parameters that further losses bring along. */
  readonly extraSpecs?: readonly ParameterSpec[];
  /** Whether a parameter is left as it is; none if omitted. */
  readonly isFrozen?: (name: string) => boolean;
  /** More terms of the loss, each [1]; they are outputs of the graph by their names. */
  readonly extraLosses?: (context: LossContext) => Readonly<Record<string, Value>>;
  /** Whether the restored pixels are an output. */
  readonly outputPixels?: boolean;
}

/** What losses of restored images can be made of. */
export interface ImageLossContext {
  readonly graph: GraphBuilder;
  /** A parameter by name. */
  readonly parameter: (name: string) => Value;
  /** Reconstructions and their targets, both [B or 2 B, 3, S, S], and where they count, [1, 1, S, S]. */
  readonly pixels: Value;
  readonly target: Value;
  readonly pixelWeights: Value;
  /** Their distance, [1], times its factor. */
  readonly reconstruction: Value;
}

/** What further losses of DetailFlow's tokenizer can be made of. */
export interface LossContext extends ImageLossContext {
  readonly outputs: TrainingOutputs;
}

/**
 * Loss and gradients of one micro-batch of a tokenizer step, added to the gradient buffers. There are two such graphs,
 * with and without self-correction; prefix length, noise index and decoded size are fed as masks.
 *
 * Feeds: images and target [B, 3, S, S] (a smaller target lies in the top left corner), pixelWeights [1, 1, S, S]
 * (1/R^2 where the target of R x R pixels lies), decoderPlaces [P', grid^2], decoderVisible bool [L', L']; in a
 * self-correction step ranks i32 [B, n], isClean and isPrefix bool [n], n being the tokens of the images.
 * Outputs: loss, reconstruction, vq, commit, entropy and the extra losses, each [1]; unit [B, n, d]; codes i32 [B, n]
 * of the first pass, with self-correction fresh i32 [B, n] of the second; pixels where they are asked for.
 * Source: docs/method.md sections 3 and 5.
 */
export function tokenizerStepGraph(options: TokenizerGraphOptions): Graph {
  checkOptions('tokenizerStepGraph', options, {
    config: true,
    microBatch: true,
    correction: true,
    pixelLoss: true,
    quantiser: true,
    extraSpecs: true,
    extraLosses: true,
    outputPixels: true,
    ...{ image: true, pixelWeight: true, hiddenLayer: true, isFrozen: true },
  });
  const { config, microBatch: batch, pixelLoss = 'l2', extraSpecs = [], pixelWeight = 1 } = options;
  const { isFrozen = () => false } = options;
  const { size, tokens } = options.image ?? { size: config.imageSize, tokens: config.tokens };
  const specs = [...tokenizerParameters(config), ...extraSpecs];
  const learned = specs.filter(({ name }) => !isFrozen(name));
  return trace((g) => {
    const parameter = sharedParameters(g, specs);
    const images = g.input('images', 'f32', [batch, 3, size, size]);
    const target = g.input('target', 'f32', [batch, 3, size, size]);
    const pixelWeights = g.input('pixelWeights', 'f32', [1, 1, size, size]);
    const patches = (size / config.decoder.patchSize) ** 2;
    const correction = options.correction
      ? {
          ranks: g.input('ranks', 'i32', [batch, tokens]),
          isClean: g.input('isClean', 'bool', [tokens]),
          isPrefix: g.input('isPrefix', 'bool', [tokens]),
        }
      : undefined;
    const outputs = trainingForward(
      parameter,
      config,
      {
        images,
        ...encoderConstants(g, config, { size, tokens }),
        decoderPlaces: g.input('decoderPlaces', 'f32', [patches, config.decoder.positionGrid ** 2]),
        decoderVisible: g.input('decoderVisible', 'bool', [patches + tokens, patches + tokens]),
        correction,
      },
      { ...options.quantiser, hiddenLayer: options.hiddenLayer },
    );
    const targets = correction ? concat([target, target], 0) : target;
    const distance = pixelDistance(outputs.pixels, targets, pixelWeights, pixelLoss);
    const reconstruction = pixelWeight === 1 ? distance : mul(distance, pixelWeight);
    const extra =
      options.extraLosses?.({
        graph: g,
        parameter,
        pixels: outputs.pixels,
        target: targets,
        pixelWeights,
        reconstruction,
        outputs,
      }) ?? {};
    const { pixels, vq, commit, entropy, unit, codes, fresh } = outputs;
    const loss = [reconstruction, vq, commit, entropy, ...Object.values(extra)].reduce(add);
    accumulateGradients(
      g,
      learned,
      gradients(
        loss,
        learned.map(({ name }) => parameter(name)),
      ),
    );
    return {
      ...{ loss, reconstruction, vq, commit, entropy, ...extra, unit, codes },
      ...(fresh && { fresh }),
      ...(options.outputPixels && { pixels }),
    };
  });
}

/** What the encoder is fed in every step of images of one size. */
function encoderConstants(g: GraphBuilder, config: TokenizerConfig, { size, tokens }: StepImages) {
  const { groupSize, causalTokens, encoder } = config;
  const side = size / encoder.patchSize;
  const patches = side ** 2;
  const mask = {
    patches,
    tokens,
    groupSize,
    causalTokens,
    patchesSeeLatents: false,
    latentsSeePatches: true,
  };
  const length = patches + tokens;
  return {
    encoderResize: g.constant(resizeMatrix('bilinear-antialias', encoder.positionGrid, side), [
      side,
      encoder.positionGrid,
    ]),
    positions: g.constant(
      Int32Array.from({ length: tokens }, (_, i) => i),
      [tokens],
      'i32',
    ),
    encoderVisible: config.causalEncoder
      ? g.constant(attentionMask(mask), [length, length], 'bool')
      : undefined,
  };
}

/**
 * Mean squared (l2) or absolute (l1) difference of images [B, 3, S, S] over the pixels that `weights` [1, 1, S, S]
 * counts, which sum to 1: [1].
 */
export function pixelDistance(pixels: Value, target: Value, weights: Value, kind: PixelLoss): Value {
  const [batch, channels] = pixels.shape as number[];
  const difference = sub(pixels, target);
  const distance = kind === 'l2' ? mul(difference, difference) : maximum(difference, neg(difference));
  const total = sum(mul(distance, weights), [0, 1, 2, 3]);
  return mul(reshape(total, [1]), 1 / (batch * channels));
}
