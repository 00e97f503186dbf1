import {
  add,
  checkOptions,
  concat,
  div,
  equal,
  extent,
  type Graph,
  type GraphBuilder,
  gather,
  HIDDEN,
  less,
  log,
  mul,
  reshape,
  scheduleSteps,
  select,
  slice,
  sub,
  symbol,
  topK,
  trace,
  transpose,
  type Value,
  writeRows,
} from '@detailflow/core';
import type { GroupTransformerConfig } from './group-config';
import { gradualGuidance, groupSchedule } from './group-schedule';
import { groupWeights, step } from './group-transformer';
import { PlaceKind } from './places';

/** The part of a generation that runs once for every token or group. */
export interface GroupGenerator {
  /** Input of the body, i32 [1], that takes the number of the run. */
  readonly counter: string;
  readonly iterations: number;
  /**
   * Inputs: labels i32 [B], noise f32 [B, N, V] of Exp(1) draws, cfg f32 [1], temperature f32 [1]. States: the KV
   * cache, and `codes` i32 [B, {@link width}], of which the first N are the tokens at the end.
   */
  readonly body: Graph;
  readonly width: number;
}

const batch = symbol('batch');

/**
 * The drawing of all tokens from label and noise. Every run feeds g places; before the causal tokens are done only
 * the first of them counts: the others are hidden from it, and what they leave behind is overwritten by later runs.
 */
export function groupGenerator(
  ar: GroupTransformerConfig,
  options: { readonly guidance?: string } = {},
): GroupGenerator {
  checkOptions('groupGenerator', options, { guidance: true });
  const { guidance = 'constant' } = options;
  const runs = schedule(ar);
  const length = ar.tokens + ar.groupSize - 1; // room for what the last causal run leaves behind
  const body = trace((g) => {
    const run = g.input('run', 'i32', [1]);
    /** The row of a table [runs, width] that belongs to this run. */
    const row = (dtype: 'i32' | 'f32', table: (one: Run, index: number) => readonly number[]) => {
      const rows = runs.map(table);
      const width = rows[0].length;
      const all = g.constant(Float64Array.from(rows.flat()), [rows.length, width], dtype);
      return reshape(gather(all, run), [width]);
    };
    const labels = checkedLabels(g, g.input('labels', 'i32', [batch]), ar.classes);
    const codes = g.state('codes', [batch, length], 'i32');
    const positions = row('i32', (one) => one.positions);
    const kinds = row('i32', (one) => one.kinds);
    const source = row('i32', (one) => one.sources);
    const known = transpose(gather(transpose(codes, [1, 0]), source), [1, 0]); // [B, g]
    const fed = (label: Value) => {
      const classOrToken = select(equal(kinds, PlaceKind.class), reshape(label, [batch, 1]), known);
      return select(equal(kinds, PlaceKind.special), source, classOrToken);
    };
    const unconditional = add(mul(labels, 0), ar.classes);
    const ids = concat([fed(labels), fed(unconditional)], 0); // [2 B, g]
    const freshBias = row('f32', (one) => one.hidden);
    const logits = step(g, groupWeights(g, ar), ar, { ids, kinds, positions }, { cache: length, freshBias }); // [2 B, g, V]

    const conditional = slice(logits, 0, 0, batch);
    const other = slice(logits, 0, batch, extent(logits, 0));
    const steps = scheduleSteps(groupSchedule(ar));
    const gradual = gradualGuidance(ar);
    const factor = row('f32', (_run, index) => [guidance === 'gradual' ? gradual(steps[index], 1) : 1]);
    const scale = mul(g.input('cfg', 'f32', [1]), factor);
    const guided = add(other, mul(sub(conditional, other), scale)); // [B, g, V]
    const noise = g.input('noise', 'f32', [batch, ar.tokens, ar.vocabularySize]);
    const draws = transpose(gather(transpose(noise, [1, 0, 2]), positions), [1, 0, 2]);
    // The largest p / e is the largest logit / T - log e.
    const scores = sub(div(guided, g.input('temperature', 'f32', [1])), log(draws));
    const chosen = reshape(topK(scores, 1), [batch, ar.groupSize]);
    g.update('codes', writeRows(codes, chosen, slice(positions, 0, 0, 1), 1));
    return {};
  });
  return { counter: 'run', iterations: runs.length, body, width: length };
}

/**
 * Labels that are looked up in a table of all of them, 0 .. classes with "no class" as the last, so that others end in an
 * error of the runtime: a label below 0 would count from the end. The first label is looked up as well, since an empty
 * batch divides by zero later on.
 */
function checkedLabels(g: GraphBuilder, labels: Value, classes: number): Value {
  const count = classes + 1;
  const table = g.constant(
    Int32Array.from({ length: count }, (_, i) => i),
    [count],
    'i32',
  );
  const first = gather(labels, g.constant(Int32Array.of(0), [1], 'i32'));
  const known = add(labels, mul(first, 0));
  return gather(table, select(less(known, 0), count, known));
}

/** What one run of the body is fed, for each of its g places. */
interface Run {
  readonly positions: readonly number[];
  readonly kinds: readonly number[];
  /** Index of the token that is fed, or number of the special embedding. */
  readonly sources: readonly number[];
  /** Bias that hides the places that do not count. */
  readonly hidden: readonly number[];
}

/** The runs of a generation: c of one token, then one for each group. */
function schedule({ tokens, groupSize, causalTokens }: GroupTransformerConfig): Run[] {
  const places = Array.from({ length: groupSize }, (_, i) => i);
  const runs: Run[] = [];
  for (let position = 0; position < tokens; position += position < causalTokens ? 1 : groupSize) {
    const single = position < causalTokens;
    const first = position === causalTokens;
    const kind = (i: number) => {
      if (position === 0 && (single || i === 0)) return PlaceKind.class;
      return first && i > 0 ? PlaceKind.special : PlaceKind.token;
    };
    const source = (i: number) => {
      if (single) return Math.max(0, position - 1);
      if (!first) return position - groupSize + i;
      return i === 0 ? Math.max(0, position - 1) : i - 1;
    };
    runs.push({
      positions: places.map((i) => Math.min(position + i, tokens - 1)),
      kinds: places.map(kind),
      sources: places.map(source),
      hidden: places.map((i) => (single && i > 0 ? HIDDEN : 0)),
    });
  }
  return runs;
}
