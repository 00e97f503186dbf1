import {
  type Dropout,
  forward,
  PlaceKind,
  placeMask,
  type TokenModelConfig,
  tokenModelParameters,
} from '@detailflow/ar-model';
import {
  checkOptions,
  type Graph,
  type GraphBuilder,
  logSoftmax,
  mul,
  neg,
  reshape,
  select,
  sum,
  takeAlong,
  trace,
  type Value,
} from '@detailflow/core';
import { gradients } from '@detailflow/core/gradients';
import { accumulateGradients, Buffer, type BufferKind, sharedParameters } from './optimiser';

/** What the graph of an AR model's step is made of. */
export interface TokenModelGraphOptions {
  readonly config: TokenModelConfig;
  /** Sequences of one run, B. */
  readonly microBatch: number;
  /** Probability with which values that attention and feed-forward add are dropped; their masks are fed. */
  readonly dropout?: number;
  /** The same for the embedded sequence; default `dropout`. */
  readonly tokenDropout?: number;
  /** Probability with which a row loses a whole branch of the last layer; less in earlier ones, none in the first. */
  readonly dropPath?: number;
  /** Whether a parameter is left as it is; none if omitted. */
  readonly isFrozen?: (name: string) => boolean;
}

/**
 * Loss and gradients of one micro-batch of an AR step, added to the gradient buffers.
 * Feeds: ids i32 [B, N] (see {@link sequenceIds}), targets i32 [B, N]; with dropout {@link dropoutMasks}, bool [B, N, E],
 * with dropped branches {@link dropPathMasks}, bool [B, 1, 1].
 * Outputs: loss [1], the mean cross-entropy in nats, and positionLoss [N].
 * Source: docs/method.md sections 4 and 5.
 */
export function tokenModelStepGraph(options: TokenModelGraphOptions): Graph {
  checkOptions('tokenModelStepGraph', options, {
    ...{ config: true, microBatch: true, dropout: true, tokenDropout: true, dropPath: true, isFrozen: true },
  });
  const { config, microBatch, isFrozen = () => false } = options;
  const specs = tokenModelParameters(config);
  const learned = specs.filter(({ name }) => !isFrozen(name));
  return trace((g) => {
    const parameter = sharedParameters(g, specs);
    const { loss, positionLoss } = lossOf(g, parameter, config, microBatch, droppingOut(g, options));
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
  { config, microBatch }: TokenModelGraphOptions,
  kind: BufferKind = Buffer.parameter,
): Graph {
  return trace((g) => lossOf(g, sharedParameters(g, tokenModelParameters(config), kind), config, microBatch));
}

function lossOf(
  g: GraphBuilder,
  parameter: (name: string) => Value,
  config: TokenModelConfig,
  batch: number,
  dropout?: Dropout,
): { loss: Value; positionLoss: Value } {
  const { tokens } = config;
  const kinds = placeKinds(config);
  const logits = forward(parameter, config, {
    ids: g.input('ids', 'i32', [batch, tokens]),
    kinds: g.constant(kinds, [tokens], 'i32'),
    positions: g.constant(
      kinds.map((_, place) => place),
      [tokens],
      'i32',
    ),
    visible: g.constant(placeMask(tokens, config), [tokens, tokens], 'bool'),
    dropout,
  }); // [B, N, V]
  const targets = g.input('targets', 'i32', [batch, tokens]);
  const picked = takeAlong(logSoftmax(logits), reshape(targets, [batch, tokens, 1]));
  const total = reshape(sum(reshape(picked, [batch, tokens]), [0]), [tokens]);
  const positionLoss = mul(neg(total), 1 / batch);
  return { loss: mul(sum(positionLoss, [0]), 1 / tokens), positionLoss };
}

/** What is fed at the N places of a training sequence. Source: docs/method.md section 4. */
export function placeKinds({ tokens, groupSize, causalTokens }: TokenModelConfig): Int32Array {
  return Int32Array.from({ length: tokens }, (_, place) => {
    if (place === 0) return PlaceKind.class;
    return place > causalTokens && place < causalTokens + groupSize ? PlaceKind.special : PlaceKind.token;
  });
}

/**
 * What is fed for rows of known tokens: the class, the first c tokens, the special embeddings, and the tokens up to
 * those of the last group.
 * `labels`: class of every row, the number of classes for none. `rows`: i32 [B, N].
 * @returns i32 [B, N]
 */
export function sequenceIds(
  config: TokenModelConfig,
  { labels, rows }: { readonly labels: ArrayLike<number>; readonly rows: Int32Array },
): Int32Array {
  const { tokens, groupSize, causalTokens } = config;
  const kinds = placeKinds(config);
  return Int32Array.from({ length: rows.length }, (_, i) => {
    const place = i % tokens;
    const row = (i - place) / tokens;
    if (kinds[place] === PlaceKind.class) return labels[row];
    if (kinds[place] === PlaceKind.special) return place - causalTokens - 1;
    return rows[row * tokens + place - (place <= causalTokens ? 1 : groupSize)];
  });
}

/** Names of the masks that say what is kept of values, in the order of the layers. */
export function dropoutMasks(config: TokenModelConfig): string[] {
  return Array.from({ length: 1 + 2 * config.layers }, (_, i) => `keep.${i}`);
}

/** Names of the masks that say for which rows a branch is kept; attention, then feed-forward of every layer but the first. */
export function dropPathMasks(config: TokenModelConfig): string[] {
  return Array.from({ length: 2 * (config.layers - 1) }, (_, i) => `path.${i + 2}`);
}

/** How often the branches of a layer are dropped: from 0 in the first to `rate` in the last. */
export const dropPathRate = ({ layers }: TokenModelConfig, layer: number, rate: number): number =>
  layers < 2 ? 0 : (rate * layer) / (layers - 1);

function droppingOut(g: GraphBuilder, options: TokenModelGraphOptions): Dropout | undefined {
  const { config, microBatch, dropout = 0, tokenDropout = dropout, dropPath = 0 } = options;
  if (dropout === 0 && tokenDropout === 0 && dropPath === 0) return undefined;
  const names = dropoutMasks(config);
  const values = (x: Value, name: string, probability: number) => {
    if (probability === 0) return x;
    const kept = g.input(name, 'bool', [microBatch, config.tokens, config.dim]);
    return select(kept, mul(x, 1 / (1 - probability)), 0);
  };
  return (x, place) => {
    if (!place) return values(x, names[0], tokenDropout);
    const at = 2 * place.layer + (place.branch === 'attention' ? 0 : 1);
    const y = values(x, names[1 + at], dropout);
    const rate = dropPathRate(config, place.layer, dropPath);
    if (rate === 0) return y;
    return select(g.input(`path.${at}`, 'bool', [microBatch, 1, 1]), mul(y, 1 / (1 - rate)), 0);
  };
}
