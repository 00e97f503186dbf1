import {
  type Attend,
  biasedAttend,
  gridRotation,
  type Parameters,
  parameterAccess,
  ropeTransformer,
} from '@detailflow/blocks';
import {
  broadcastTo,
  concat,
  type Dim,
  equal,
  extent,
  type Graph,
  type GraphBuilder,
  gather,
  gelu,
  HIDDEN,
  less,
  linear,
  reshape,
  select,
  slice,
  subtractDims,
  symbol,
  trace,
  type Value,
  writeRows,
} from '@detailflow/core';
import { NO_TEXT, type TextGptConfig, textGptParameters } from './text-config';

// Shapes: B rows, T places of the text, N codes, P = T + N - 1 places in all, L places fed, E dim, V vocabulary.

/** Places of a sequence, P: the last code is never fed. */
const textSequenceLength = ({ textPlaces, tokens }: TextGptConfig): number => textPlaces + tokens - 1;

/**
 * A step with a cache in the states `layers.i.k` and `.v` [B, K, P, D], first all T places of the text, then code after code.
 * Inputs: features f32 [B, L, F] and isNothing bool [B], of which a text is made; ids i32 [B, L], codes; isText bool [L], which
 * of the two counts; positions i32 [L], ascending; mask bool [B, T]. Output: logits f32 [B, 1, V] of the last place.
 */
export function textStepGraph(config: TextGptConfig): Graph {
  const [batch, length] = [symbol('batch'), symbol('step')];
  const { textPlaces, textWidth, dim, heads, kvHeads } = config;
  const places = textSequenceLength(config);
  return trace((g) => {
    const p = parameterAccess(g, textGptParameters(config));
    const positions = g.input('positions', 'i32', [length]);
    const isText = reshape(g.input('isText', 'bool', [length]), [length, 1]);
    const isNothing = reshape(g.input('isNothing', 'bool', [batch]), [batch, 1, 1]);
    const blank = gather(p(NO_TEXT), select(less(positions, textPlaces), positions, 0)); // [L, F]
    const features = select(isNothing, blank, g.input('features', 'f32', [batch, length, textWidth]));
    const ids = g.input('ids', 'i32', [batch, length]);
    const x = select(isText, textEmbedding(p, features), gather(p('tok_embeddings.weight'), ids));
    const mask = g.input('mask', 'bool', [batch, textPlaces]);
    const seen = biasedAttend(config, textBias(config, { positions, mask, batch, places }));
    const offset = slice(positions, 0, 0, 1);
    const attend: Attend = (layer, q, k, v) => {
      const [keys, values] = [k, v].map((rows, i) => {
        const name = `${layer}.${i === 0 ? 'k' : 'v'}`;
        const cache = writeRows(g.state(name, [batch, kvHeads, places, dim / heads]), rows, offset, 2);
        g.update(name, cache);
        return cache;
      });
      return seen(layer, q, keys, values);
    };
    const logits = ropeTransformer(p, config, { x, ...rotation(g, config, positions), attend });
    return { logits: slice(logits, 1, subtractDims(length, 1), length) };
  });
}

/** What the text-conditional GPT is fed with in training. */
export interface TextForwardInputs {
  /** f32 [B, T, F], zeros at places of padding; rows of "no text" are given as features here. */
  readonly features: Value;
  /** bool [B, T]: places that belong to the text. */
  readonly mask: Value;
  /** i32 [B, n]: codes that are fed, N - 1 in training. */
  readonly codes: Value;
}

/** Logits [B, T + n, V] of all places at once, for training. All extents must be known. */
export function textForward(p: Parameters, config: TextGptConfig, inputs: TextForwardInputs): Value {
  const { features, mask, codes } = inputs;
  const { graph } = features;
  const [batch, places] = [extent(codes, 0), config.textPlaces + (extent(codes, 1) as number)];
  const positions = graph.constant(
    Int32Array.from({ length: places }, (_, i) => i),
    [places],
    'i32',
  );
  const x = concat([textEmbedding(p, features), gather(p('tok_embeddings.weight'), codes)], 1);
  const attend = biasedAttend(config, textBias(config, { positions, mask, batch, places }));
  return ropeTransformer(p, config, { x, ...rotation(graph, config, positions), attend });
}

/** Features [B, L, F] -> [B, L, E]; a zero stays zero. */
export function textEmbedding(p: Parameters, features: Value): Value {
  const name = 'cls_embedding.cap_proj';
  return linear(gelu(linear(features, p(`${name}.fc1.weight`))), p(`${name}.fc2.weight`));
}

interface Visibility {
  /** i32 [L]. */
  readonly positions: Value;
  /** bool [B, T]. */
  readonly mask: Value;
  readonly batch: Dim;
  /** Places that are looked at, P. */
  readonly places: number;
}

/** Every place sees itself, and those before it but padding of the text: bias [B, L, P]. */
function textBias({ textPlaces }: TextGptConfig, { positions, mask, batch, places }: Visibility): Value {
  const { graph } = positions;
  const every = graph.constant(
    Int32Array.from({ length: places }, (_, i) => i),
    [1, places],
    'i32',
  );
  const own = reshape(positions, [extent(positions, 0), 1]);
  const isLater = less(own, every); // [L, P]
  const codes = places - textPlaces;
  const shown = broadcastTo(graph.constant(new Float32Array(codes), [1, codes]), [batch, codes]);
  const padding = reshape(concat([select(mask, 0, HIDDEN), shown], 1), [batch, 1, places]);
  return select(isLater, HIDDEN, select(equal(own, every), 0, padding)); // [B, L, P]
}

/** The rotary tables of the places [L, D/2]; those of the text have no cell. */
function rotation(g: GraphBuilder, config: TextGptConfig, positions: Value): { cos: Value; sin: Value } {
  const { textPlaces, tokens, dim, heads, ropeBase } = config;
  const [side, headDim] = [Math.sqrt(tokens), dim / heads];
  const cells = Array.from({ length: textSequenceLength(config) }, (_, place) => {
    const code = place - textPlaces;
    return code < 0 ? undefined : { row: Math.floor(code / side), column: code % side };
  });
  const { cos, sin } = gridRotation(cells, { headDim, ropeBase });
  const rows = (table: Float32Array) => gather(g.constant(table, [cells.length, headDim / 2]), positions);
  return { cos: rows(cos), sin: rows(sin) };
}
