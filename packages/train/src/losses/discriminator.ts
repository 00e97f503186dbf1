import type { GraphBuilder, ParameterSpec, Value, Weights } from '@detailflow/core';
import {
  type PatchDiscriminatorConfig,
  patchDiscriminator,
  patchDiscriminatorParameters,
} from '@detailflow/features';
import { Buffer, sharedParameters } from '../optimiser';

/**
 * A network that tells real images from restored ones. Give one of your own to put heads on the features of a network
 * that you have, such as DINO: its weights are `fixed`, those of the heads are learned.
 */
export interface Discriminator {
  /** Names and shapes of what is learned. */
  readonly specs: readonly ParameterSpec[];
  readonly fixed?: { readonly specs: readonly ParameterSpec[]; readonly weights: Weights };
  /**
   * Judgements, high for real images.
   * @param p a weight by its name, learned or fixed
   * @param x [B, 3, S, S] in [-1, 1]
   * @returns [B, 1, h, w], of h x w parts of the image
   */
  logits(p: (name: string) => Value, x: Value): Value;
  /** Whether the judgement of an image depends on the others of its batch, so that real and restored ones must not share one. */
  readonly isOverBatch?: boolean;
}

/** A PatchGAN. */
export const patchGan = (config: PatchDiscriminatorConfig): Discriminator => ({
  specs: patchDiscriminatorParameters(config),
  logits: (p, x) => patchDiscriminator(p, config, x),
  isOverBatch: config.norm === 'batch',
});

const PREFIX = 'discriminator.';

/** The parameters as a learner knows them, apart from those of the tokenizer. */
export const discriminatorSpecs = ({ specs }: Discriminator): readonly ParameterSpec[] =>
  specs.map(({ name, shape }) => ({ name: PREFIX + name, shape }));

/** Reads the weights of a discriminator in a graph: what is learned from the learner's buffers. */
export function discriminatorWeights(g: GraphBuilder, model: Discriminator): (name: string) => Value {
  const learned = sharedParameters(g, discriminatorSpecs(model), Buffer.parameter);
  const fixed = new Map(model.fixed?.specs.map(({ name, shape }) => [name, shape]));
  return (name) => {
    const shape = fixed.get(name);
    return shape ? g.weight(name, shape) : learned(PREFIX + name);
  };
}
