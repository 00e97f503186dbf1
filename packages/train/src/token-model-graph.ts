import type { Dropout, TokenModelConfig } from '@detailflow/ar-model';
import { groupTraining, type TrainableTokenModel } from '@detailflow/blocks';
import {
  checkOptions,
  type Graph,
  type GraphBuilder,
  mul,
  select,
  trace,
  type Value,
} from '@detailflow/core';
import { gradients } from '@detailflow/core/gradients';
import { drawnTokenModel } from './initialise';
import { accumulateGradients, Buffer, type BufferKind, sharedParameters } from './optimiser';

/** How a step of an AR model drops values and branches. */
export interface TokenModelDropping {
  /** Probability with which values that attention and feed-forward add are dropped; their masks are fed. */
  readonly dropout?: number;
  /** The same for the embedded sequence; default `dropout`. */
  readonly tokenDropout?: number;
  /** Probability with which a row loses a whole branch of the last layer; less in earlier ones, none in the first. */
  readonly dropPath?: number;
}

/** What the graph of an AR model's step is made of. */
export interface TokenModelGraphOptions extends TokenModelDropping {
  readonly config: TokenModelConfig;
  /** Sequences of one run, B. */
  readonly microBatch: number;
  /** Whether a parameter is left as it is; none if omitted. */
  readonly isFrozen?: (name: string) => boolean;
}

/** DetailFlow's AR model as something that learns. */
export const trainableTokenModel = (config: TokenModelConfig): TrainableTokenModel => ({
  ...groupTraining(config),
  initial: drawnTokenModel,
});

/**
 * Loss and gradients of one micro-batch of an AR step, added to the gradient buffers.
 * Feeds: ids i32 [B, N] (see `sequenceIds`), targets i32 [B, N]; with dropout {@link dropoutMasks}, bool [B, N, E],
 * with dropped branches {@link dropPathMasks}, bool [B, 1, 1].
 * Outputs: loss [1], the mean cross-entropy in nats, and positionLoss [N].
 * Source: docs/method.md sections 4 and 5.
 */
export function tokenModelStepGraph(options: TokenModelGraphOptions): Graph {
  checkOptions('tokenModelStepGraph', options, {
    ...{ config: true, microBatch: true, dropout: true, tokenDropout: true, dropPath: true, isFrozen: true },
  });
  const { config, ...how } = options;
  return sequenceStepGraph(trainableTokenModel(config), how);
}

/** The same of any transformer: feeds are its own. */
export function sequenceStepGraph(
  model: TrainableTokenModel,
  options: Omit<TokenModelGraphOptions, 'config'>,
): Graph {
  const { microBatch: batch, isFrozen = () => false } = options;
  const learned = model.specs.filter(({ name }) => !isFrozen(name));
  return trace((g) => {
    const parameter = sharedParameters(g, model.specs);
    const dropout = droppingOut(g, model, options);
    const { loss, positionLoss } = model.loss(g, parameter, { batch, dropout });
    const found = gradients(
      loss,
      learned.map(({ name }) => parameter(name)),
    );
    accumulateGradients(g, learned, found);
    return { loss, positionLoss };
  });
}

/** The loss alone, without dropout, of the parameters or their running means. Feeds and outputs as above. */
export function tokenModelLossGraph(
  { config, microBatch, isFrozen }: TokenModelGraphOptions,
  kind: BufferKind = Buffer.parameter,
): Graph {
  return sequenceLossGraph(trainableTokenModel(config), microBatch, kind, isFrozen);
}

/** The same of any transformer; frozen parameters have no running means, and are their own. */
export function sequenceLossGraph(
  model: TrainableTokenModel,
  batch: number,
  kind: BufferKind,
  isFrozen: (name: string) => boolean = () => false,
): Graph {
  return trace((g) => {
    const learned = sharedParameters(
      g,
      model.specs.filter(({ name }) => !isFrozen(name)),
      kind,
    );
    const frozen = sharedParameters(
      g,
      model.specs.filter(({ name }) => isFrozen(name)),
    );
    return { ...model.loss(g, (name) => (isFrozen(name) ? frozen : learned)(name), { batch }) };
  });
}

type Layers = Pick<TokenModelConfig, 'layers'>;

/** Names of the masks that say what is kept of values, in the order of the layers. */
export function dropoutMasks(config: Layers): string[] {
  return Array.from({ length: 1 + 2 * config.layers }, (_, i) => `keep.${i}`);
}

/** Names of the masks that say for which rows a branch is kept; attention, then feed-forward of every layer but the first. */
export function dropPathMasks(config: Layers): string[] {
  return Array.from({ length: 2 * (config.layers - 1) }, (_, i) => `path.${i + 2}`);
}

/** How often the branches of a layer are dropped: from 0 in the first to `rate` in the last. */
export const dropPathRate = ({ layers }: Layers, layer: number, rate: number): number =>
  layers < 2 ? 0 : (rate * layer) / (layers - 1);

function droppingOut(
  g: GraphBuilder,
  model: Pick<TrainableTokenModel, 'layers' | 'tokens' | 'dim'>,
  options: TokenModelDropping & { readonly microBatch: number },
): Dropout | undefined {
  const { microBatch, dropout = 0, tokenDropout = dropout, dropPath = 0 } = options;
  if (dropout === 0 && tokenDropout === 0 && dropPath === 0) return undefined;
  const names = dropoutMasks(model);
  const values = (x: Value, name: string, probability: number) => {
    if (probability === 0) return x;
    const kept = g.input(name, 'bool', [microBatch, model.tokens, model.dim]);
    return select(kept, mul(x, 1 / (1 - probability)), 0);
  };
  return (x, place) => {
    if (!place) return values(x, names[0], tokenDropout);
    const at = 2 * place.layer + (place.branch === 'attention' ? 0 : 1);
    const y = values(x, names[1 + at], dropout);
    const rate = dropPathRate(model, place.layer, dropPath);
    if (rate === 0) return y;
    return select(g.input(`path.${at}`, 'bool', [microBatch, 1, 1]), mul(y, 1 / (1 - rate)), 0);
  };
}
