import {
  type Attributes,
  type Graph,
  sameDim,
  sameShape,
  type TypedData,
  type Value,
} from '@detailflow/core';
import { MOST_ARRAYS } from './kernel';
import { floatLiteral, pointwiseCode } from './kernels/pointwise';

/** An operand of a pointwise step: a value seen through operations that only change where its elements lie. */
export interface Leaf {
  readonly source: Value;
  /** transpose, broadcastTo, slice, and reshape that divides axes, in the order they apply. */
  readonly views: readonly Value[];
}

/** Products of the same matrices by others, of which a step computes an expression at once. */
export interface Products {
  /** The left operand, or what it is the norm of. */
  readonly left: Value;
  /** The root mean square norm of \`left\` that is the left operand. */
  readonly norm?: Value;
  /** Products, and which leaf each of them is. */
  readonly parts: readonly { readonly leaf: number; readonly product: Value }[];
}

/** An expression for every element, over leaves v0, v1, ... */
export interface Pointwise {
  readonly value: Value;
  readonly leaves: readonly Leaf[];
  readonly expression: string;
}

/** One kernel run, or none where only the shape changes. */
export type Step =
  | (Pointwise & { readonly kind: 'pointwise' })
  /** An expression of which some leaves are products, made on the way. */
  | (Pointwise & { readonly kind: 'products'; readonly products: Products })
  /** The same elements: reshape, stopGradient, straightThrough. */
  | { readonly kind: 'alias'; readonly value: Value; readonly source: Value }
  /**
   * An operation that has a kernel of its own; some read their operands by views. `value` is its result, or the
   * result with its two middle axes changed over.
   */
  | {
      readonly kind: 'operation';
      readonly value: Value;
      readonly operation: Value;
      readonly leaves: readonly Leaf[];
    };

/** How often each value is needed. */
type Uses = ReadonlyMap<Value, number>;

/** What to run, in order; several operations may be one step. */
export interface Plan {
  readonly steps: readonly Step[];
  /** Values that must stay until the end of a step, by the step that uses them last. */
  readonly lastUses: ReadonlyMap<Value, number>;
}

const LEAVES = new Set(['input', 'weight', 'state', 'constant']);
const VIEWS = new Set(['transpose', 'broadcastTo', 'slice']);
const ALIASES = new Set(['reshape', 'stopGradient', 'straightThrough']);
/** Arrays that one kernel may read beside its result. */
const MOST_LEAVES = MOST_ARRAYS - 1;
/** Products that one kernel makes. */
const MOST_PRODUCTS = 2;
/** Operands that kernels of operations read by views. */
const VIEWED: Readonly<Record<string, readonly number[]>> = {
  attention: [0, 1, 2],
  cachedAttention: [0, 1, 2],
  rope: [0],
  writeRows: [1],
};

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
  if (step.kind === 'alias') return [step.source];
  const sources = step.leaves.map(({ source }) => source);
  if (step.kind !== 'products') return sources;
  const { left, norm, parts } = step.products;
  return [
    left,
    ...(norm ? [norm.inputs[1]] : []),
    ...parts.map(({ product }) => product.inputs[1]),
    ...sources.filter((_, leaf) => parts.every((part) => part.leaf !== leaf)),
  ];
}

function stepFor(value: Value, uses: Uses): Step {
  if (ALIASES.has(value.op)) return { kind: 'alias', value, source: value.inputs[0] };
  if (value.op === 'matmul') {
    return (
      withProducts({ value, leaves: [{ source: value, views: [] }], expression: 'v0' }, uses) ?? own(value)
    );
  }
  if (!VIEWS.has(value.op) && !(value.op in pointwiseCode)) return own(value);
  const leaves: Leaf[] = [];
  const expression = VIEWS.has(value.op) ? readLeaf(value, leaves) : expressionOf(value, value, uses, leaves);
  const pointwise = { value, leaves, expression };
  return (
    turnedAttention(pointwise, uses) ?? withProducts(pointwise, uses) ?? { kind: 'pointwise', ...pointwise }
  );
}

/** A step for an operation with a kernel of its own. @param value what is made, where that is not the operation itself */
function own(operation: Value, value = operation): Step {
  const leaves = operation.inputs.map((input, i): Leaf => {
    const read: Leaf[] = [];
    if (VIEWED[operation.op]?.includes(i)) readLeaf(input, read);
    return read[0] ?? { source: input, views: [] };
  });
  return { kind: 'operation', value, operation, leaves };
}

/** Attention whose heads and rows change places right after: it writes them so. */
function turnedAttention({ value, leaves: [leaf] }: Pointwise, uses: Uses): Step | undefined {
  if (!leaf || value.op !== 'transpose' || !['attention', 'cachedAttention'].includes(leaf.source.op)) return;
  const isOnly = [leaf.source, ...leaf.views.slice(0, -1)].every((step) => uses.get(step) === 1);
  const isSame = leaf.views.slice(0, -1).every(({ shape }) => sameShape(shape, leaf.source.shape));
  const isTurn = (value.attrs.permutation as number[]).join() === '0,2,1,3';
  return isOnly && isSame && isTurn ? own(leaf.source, value) : undefined;
}

/** The step with products made on the way, where nobody else needs them. */
function withProducts(step: Pointwise, uses: Uses): Step | undefined {
  const { value, leaves } = step;
  const isPart = ({ source, views }: Leaf) =>
    source.op === 'matmul' &&
    views.length === 0 &&
    !source.attrs.transposeA &&
    source.inputs[1].shape.length === 2 &&
    (source === value || uses.get(source) === 1) &&
    sameShape(source.shape, value.shape);
  const candidates = leaves.flatMap((leaf, i) => (isPart(leaf) ? [{ leaf: i, product: leaf.source }] : []));
  const [first] = candidates;
  if (!first) return undefined;
  const [operand] = first.product.inputs;
  const parts = candidates
    .filter(
      ({ product: { inputs, attrs } }) =>
        inputs[0] === operand && attrs.transposeB === first.product.attrs.transposeB,
    )
    .slice(0, MOST_PRODUCTS);
  const isNorm = operand.op === 'rmsNorm' && uses.get(operand) === parts.length;
  const arrays = leaves.length + 1 + (isNorm ? 1 : 0);
  if (arrays > MOST_LEAVES) return undefined;
  const products = isNorm ? { left: operand.inputs[0], norm: operand, parts } : { left: operand, parts };
  return { kind: 'products', ...step, products };
}

/** WGSL of an element of `value`, whose operands of the same shape are computed on the way. */
function expressionOf(value: Value, root: Value, uses: Uses, leaves: Leaf[]): string {
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

/** Adds an operand, through the views that only it needs, and through slices, which cost nothing to read again. */
function readLeaf(value: Value, leaves: Leaf[], uses?: Uses): string {
  const views: Value[] = [];
  let source = value;
  // The value itself is a view to make when nobody says how often it is used.
  while (isView(source) && (views.length > 0 || !uses || uses.get(source) === 1 || source.op === 'slice')) {
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

/** Whether a value is another one seen otherwise: a reshape is where it only divides axes. */
function isView({ op, inputs: [x], shape }: Value): boolean {
  if (op !== 'reshape') return VIEWS.has(op);
  let start = 0;
  while (start < Math.min(x.shape.length, shape.length) && sameDim(x.shape[start], shape[start])) start++;
  let rest = x.shape.length - start;
  for (
    let end = shape.length;
    rest > 0 && end > start && sameDim(x.shape[start + rest - 1], shape[end - 1]);
    end--
  )
    rest--;
  return rest === 0 || (rest === 1 && shape.length > start);
}

/** Constants of one element are written into the shader. */
function literalOf({ op, attrs, dtype, shape }: Value): string | undefined {
  if (op !== 'constant' || shape.some((dim) => dim !== 1)) return undefined;
  const [value] = (attrs as Attributes).data as TypedData;
  return dtype === 'f32' ? floatLiteral(value) : `(${value})`;
}

function countUses(graph: Graph): Uses {
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
