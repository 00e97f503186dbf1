import {
  type GraphBuilder,
  logSoftmax,
  mul,
  neg,
  reshape,
  sum,
  Tensor,
  type Tensors,
  takeAlong,
  type Value,
} from '@detailflow/core';
import type { GroupTransformerConfig } from './group-config';
import { groupParameters, ignoredGroupWeights } from './group-parameters';
import { forward } from './group-transformer';
import type { Parameters } from './parameters';
import { PlaceKind, placeMask } from './places';
import type { Dropout } from './rope-transformer';
import type { CodeRowsFed, TrainableTokenModel } from './trainable';

type Groups = Pick<GroupTransformerConfig, 'tokens' | 'groupSize' | 'causalTokens'>;

/** What is fed at the N places of a training sequence. Source: docs/method.md section 4. */
export function placeKinds({ tokens, groupSize, causalTokens }: Groups): Int32Array {
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
  config: Groups,
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

/**
 * A group-parallel transformer (DetailFlow, LlamaGen, PAR) as something that learns; how it begins is its family's.
 * Feeds: ids and targets i32 [B, N], tokens in the order of prediction. Source: docs/method.md sections 4 and 5.
 */
export function groupTraining(config: GroupTransformerConfig): Omit<TrainableTokenModel, 'initial'> {
  const { tokens, vocabularySize, classes, layers, dim } = config;
  return {
    ...{ config, tokens, vocabularySize, classes, layers, dim },
    specs: groupParameters(config),
    ignored: ignoredGroupWeights,
    loss: (graph, p, options) => groupLoss(graph, p, config, options),
    feeds: (rows) => groupFeeds(config, rows),
  };
}

function groupLoss(
  g: GraphBuilder,
  p: Parameters,
  config: GroupTransformerConfig,
  { batch, dropout }: { readonly batch: number; readonly dropout?: Dropout },
): { loss: Value; positionLoss: Value } {
  const { tokens } = config;
  const kinds = placeKinds(config);
  const logits = forward(p, config, {
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

function groupFeeds(config: GroupTransformerConfig, { labels, rows, targets }: CodeRowsFed): Tensors {
  const dims = [labels.length, config.tokens];
  return {
    ids: new Tensor('int32', sequenceIds(config, { labels, rows }), dims),
    targets: new Tensor('int32', targets, dims),
  };
}
