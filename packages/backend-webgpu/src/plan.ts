import { type Attributes, type Graph, sameShape, type TypedData, type Value } from '@detailflow/core';
import { floatLiteral, pointwiseCode } from './kernels/pointwise';

/** An operand of a pointwise step: a value seen through operations that only change where its elements lie. */
export interface Leaf {
  readonly source: Value;
  /** transpose, broadcastTo and slice, in the order they apply. */
  readonly views: readonly Value[];
}

/** One kernel run, or none where only the shape changes. */
export type Step =
  /** An expression for every element, over leaves v0, v1, ... */
  | {
      readonly kind: 'pointwise';
      readonly value: Value;
      readonly leaves: readonly Leaf[];
      readonly expression: string;
    }
  /** The same elements: reshape, stopGradient, straightThrough. */
  | { readonly kind: 'alias'; readonly value: Value; readonly source: Value }
  /** An operation that has a kernel of its own. */
  | { readonly kind: 'operation'; readonly value: Value };

/** What to run, in order; several operations may be one step. */
export interface Plan {
  readonly steps: readonly Step[];
  /** Values that must stay until the end of a step, by the step that uses them last. */
  readonly lastUses: ReadonlyMap<Value, number>;
}

const LEAVES = new Set(['input', 'weight', 'state', 'constant']);
const VIEWS = new Set(['transpose', 'broadcastTo', 'slice']);
const ALIASES = new Set(['reshape', 'stopGradient', 'straightThrough']);
/** Arrays that one kernel may read; one of the eight that every adapter binds is the result. */
const MOST_LEAVES = 7;

/**
 * Joins operations that work element by element into one kernel, where nothing else needs what lies between them, and
 * reads transposed, repeated and cut arrays in place.
 */
export function planGraph(graph: Graph): Plan {
  const uses = countUses(graph);
  const needed = new Set<Value>([
    ...graph.outputs.values(),
    ...[...graph.states.values()].map(({ after }) => after),
  ]);
  const steps: Step[] = [];
  // From the end: what a step reads must be made before it.
  for (const value of [...graph.nodes].reverse()) {
    if (!needed.has(value) || LEAVES.has(value.op)) continue;
    const step = stepFor(value, uses);
    steps.push(step);
    for (const source of sourcesOf(step)) needed.add(source);
  }
  steps.reverse();
  const ordered = [...steps.filter((step) => !isCacheWrite(step)), ...lateCacheWrites(steps)];
  const final = isOrdered(ordered) ? ordered : steps;
  const lastUses = new Map<Value, number>();
  for (const [i, step] of final.entries()) for (const source of sourcesOf(step)) lastUses.set(source, i);
  return { steps: final, lastUses };
}

/** The values that a step reads. */
export function sourcesOf(step: Step): readonly Value[] {
  if (step.kind === 'pointwise') return step.leaves.map(({ source }) => source);
  return step.kind === 'alias' ? [step.source] : step.value.inputs;
}

function stepFor(value: Value, uses: ReadonlyMap<Value, number>): Step {
  if (ALIASES.has(value.op)) return { kind: 'alias', value, source: value.inputs[0] };
  if (!VIEWS.has(value.op) && !(value.op in pointwiseCode)) return { kind: 'operation', value };
  const leaves: Leaf[] = [];
  const expression = VIEWS.has(value.op) ? readLeaf(value, leaves) : expressionOf(value, value, uses, leaves);
  return { kind: 'pointwise', value, leaves, expression };
}

/** WGSL of an element of `value`, whose operands of the same shape are computed on the way. */
function expressionOf(value: Value, root: Value, uses: ReadonlyMap<Value, number>, leaves: Leaf[]): string {
  const operands: string[] = [];
  for (const [i, input] of value.inputs.entries()) {
    const literal = literalOf(input);
    if (literal !== undefined) {
      operands.push(literal);
      continue;
    }
    // Each operand to come may need one more leaf.
    const room = MOST_LEAVES - leaves.length - (value.inputs.length - i - 1);
    const isInner = input.op in pointwiseCode && uses.get(input) === 1 && sameShape(input.shape, root.shape);
    if (isInner) {
      const tried = [...leaves];
      const inner = expressionOf(input, root, uses, tried);
      if (tried.length - leaves.length <= room) {
        leaves.splice(0, leaves.length, ...tried);
        operands.push(inner);
        continue;
      }
    }
    operands.push(readLeaf(input, leaves, uses));
  }
  return pointwiseCode[value.op](...operands);
}

/** Adds an operand, through the views that only it needs. */
function readLeaf(value: Value, leaves: Leaf[], uses?: ReadonlyMap<Value, number>): string {
  const views: Value[] = [];
  let source = value;
  // The value itself is a view to make when nobody says how often it is used.
  while (VIEWS.has(source.op) && (views.length === 0 ? !uses || uses.get(source) === 1 : true)) {
    views.unshift(source);
    source = source.inputs[0];
  }
  const known = leaves.findIndex(
    (leaf) =>
      leaf.source === source &&
      leaf.views.length === views.length &&
      leaf.views.every((view, i) => view === views[i]),
  );
  if (known >= 0) return `v${known}`;
  leaves.push({ source, views });
  return `v${leaves.length - 1}`;
}

/** Constants of one element are written into the shader. */
function literalOf({ op, attrs, dtype, shape }: Value): string | undefined {
  if (op !== 'constant' || shape.some((dim) => dim !== 1)) return undefined;
  const [value] = (attrs as Attributes).data as TypedData;
  return dtype === 'f32' ? floatLiteral(value) : `(${value})`;
}

function countUses(graph: Graph): Map<Value, number> {
  const uses = new Map<Value, number>();
  const use = (value: Value) => uses.set(value, (uses.get(value) ?? 0) + 1);
  for (const node of graph.nodes) for (const input of node.inputs) use(input);
  for (const value of graph.outputs.values()) use(value);
  for (const { after } of graph.states.values()) use(after);
  return uses;
}

/** Rows written over a state: in place, when everything else that reads the state is done. */
const isCacheWrite = ({ value }: Step): boolean => value.op === 'writeRows' && value.inputs[0].op === 'state';

const lateCacheWrites = (steps: readonly Step[]): Step[] => steps.filter(isCacheWrite);

/** Whether no step reads what a later one makes. */
function isOrdered(steps: readonly Step[]): boolean {
  const made = new Map(steps.map(({ value }, i) => [value, i]));
  return steps.every((step, i) => sourcesOf(step).every((source) => (made.get(source) ?? -1) < i));
}
