import {
  type Bindings,
  evaluateDim,
  evaluateShape,
  type Graph,
  type StatePair,
  stridesOf,
  type Value,
} from '@detailflow/core';
import type { ElementType } from './element-type';
import type { Gpu } from './gpu';
import { broadcastView, dividedView, type View, wholeView } from './kernels/coordinates';
import { areFewRows, fewRowsKernel, fewRowsTile } from './kernels/few-rows';
import { type Access, pointwiseKernel, pointwiseNumbers } from './kernels/pointwise';
import { productsKernel, TILE } from './kernels/products';
import { runOperation, type Shaped, shapeIn } from './operations';
import { type Leaf, type Plan, type Pointwise, type Step, sourcesOf } from './plan';
import { Program, type Slot } from './program';
import { sizeOf } from './size';

/** A program for one set of extents, and where its arrays come from and go to. */
export interface Lowered {
  readonly program: Program;
  /** Weights, constants, inputs and states before the run, by place. */
  readonly brought: ReadonlyMap<Value, number>;
  readonly outputs: readonly { name: string; value: Value; shape: readonly number[]; place: number }[];
  /** States that are another array after the run. */
  readonly replaced: readonly { name: string; place: number }[];
  /** States that are written in place. */
  readonly overwritten: readonly string[];
}

/**
 * Turns a plan into kernels for the extents of a run.
 * @throws DetailFlowError `limit` where an array is too large for the device
 */
export function lowerPlan(
  graph: Graph,
  plan: Plan,
  bindings: Bindings,
  { gpu, fixed }: { gpu: Gpu; fixed: Fixed },
): Lowered {
  return new Lowering(graph, plan, bindings, gpu).lower(fixed);
}

/** Weights and constants on the device. */
type Fixed = ReadonlyMap<Value, { readonly type: ElementType }>;

/** Rows of a left operand up to which products are made here; tfjs's kernels are for many. */
const SOME_ROWS = 256;

class Lowering {
  readonly #graph: Graph;
  readonly #plan: Plan;
  readonly #bindings: Bindings;
  readonly #program: Program;
  readonly #slots = new Map<Value, Slot>();
  readonly #overwritten: string[] = [];
  /** What a run needs to its end. */
  readonly #kept: ReadonlySet<Value>;

  constructor(graph: Graph, plan: Plan, bindings: Bindings, gpu: Gpu) {
    this.#graph = graph;
    this.#plan = plan;
    this.#bindings = bindings;
    this.#program = new Program(gpu);
    this.#kept = new Set([...graph.outputs.values(), ...this.#pairs().map(({ after }) => after)]);
  }

  lower(fixed: Fixed): Lowered {
    const brought = new Map<Value, number>();
    for (const value of this.#brought()) {
      const slot = this.#program.bring(sizeOf(this.#shape(value)), fixed.get(value)?.type ?? typeOf(value));
      this.#slots.set(value, slot);
      brought.set(value, slot.place);
    }
    for (const [i, step] of this.#plan.steps.entries()) {
      this.#slots.set(step.value, this.#take(step, i));
      this.#drop(i);
    }
    // What leaves the run is float32, though it be a weight as it is.
    for (const value of this.#kept) {
      const slot = this.#slot(value);
      if (slot.type === 'float16') this.#slots.set(value, this.#program.widened(slot));
    }
    const outputs = [...this.#graph.outputs].map(([name, value]) => {
      return { name, value, shape: this.#shape(value), place: this.#slot(value).place };
    });
    const replaced = [...this.#graph.states]
      .map(([name, { before, after }]) => ({ name, from: this.#slot(before), to: this.#slot(after) }))
      .filter(({ from, to }) => from !== to)
      .map(({ name, to }) => ({ name, place: to.place }));
    return { program: this.#program, brought, outputs, replaced, overwritten: this.#overwritten };
  }

  #pairs(): readonly StatePair[] {
    return [...this.#graph.states.values()];
  }

  #brought(): Set<Value> {
    const constants = this.#graph.nodes.filter(({ op }) => op === 'constant');
    const { weights, inputs } = this.#graph;
    return new Set([
      ...weights.values(),
      ...constants,
      ...inputs.values(),
      ...this.#pairs().map(({ before }) => before),
    ]);
  }

  #take(step: Step, at: number): Slot {
    const { value } = step;
    if (step.kind === 'alias') return this.#program.hold(this.#slot(step.source));
    const shape = this.#shape(value);
    if (step.kind === 'pointwise') return this.#pointwise(step, shape);
    if (step.kind === 'products') return this.#products(step, shape);
    const { operation, leaves } = step;
    const inputs = operation.inputs.map((input, k): Shaped => {
      const array = this.#slot(leaves[k].source);
      const view = leaves[k].views.length > 0 ? this.#view(leaves[k]) : undefined;
      return { array, shape: this.#shape(input), view };
    });
    const overwritten = this.#overwrites(step, at);
    if (overwritten !== undefined) this.#overwritten.push(overwritten);
    return runOperation({
      ...{ program: this.#program, value: operation, inputs, shape, isTurned: value !== operation },
      mayOverwrite: overwritten !== undefined,
    });
  }

  /** Products and the expression of them: one kernel for few rows, else each by itself. */
  #products(step: Extract<Step, { kind: 'products' }>, shape: readonly number[]): Slot {
    const { left, norm, parts } = step.products;
    const columns = shape[shape.length - 1];
    const rows = sizeOf(shape.slice(0, -1));
    if (rows > SOME_ROWS || rows * columns === 0) return this.#separateProducts(step, shape);
    const inner = this.#shape(left)[this.#shape(left).length - 1];
    const isPart = (leaf: number) => parts.some((part) => part.leaf === leaf);
    const views = step.leaves.map((leaf, k) =>
      isPart(k) ? undefined : broadcastView(this.#view(leaf), shape),
    );
    const accesses = views.map((view, k) => (view ? this.#access(step.leaves[k], view, shape) : 'product'));
    const isNorm = norm !== undefined;
    const transposeB = parts[0].product.attrs.transposeB as boolean;
    const source = { expression: step.expression, accesses, rank: shape.length, transposeB, isNorm };
    const isFew = transposeB && areFewRows(rows, inner);
    const tile = isFew ? fewRowsTile(rows, parts.length) : { down: TILE, across: TILE };
    const across = Math.ceil(columns / tile.across);
    const tiles = across * Math.ceil(rows / tile.down);
    const kernel = isFew ? fewRowsKernel(source, tile) : productsKernel(source);
    const read = [
      left,
      ...(norm ? [norm.inputs[1]] : []),
      ...parts.map(({ product }) => product.inputs[1]),
      ...step.leaves.filter((_, k) => !isPart(k)).map(({ source }) => source),
    ];
    return this.#program.dispatch(
      kernel,
      read.map((source) => this.#slot(source)),
      {
        ...{ size: rows * columns, type: typeOf(step.value), groups: tiles },
        numbers: [
          ...[rows, columns, inner, across, tiles],
          ...(norm ? [norm.attrs.epsilon as number] : []),
          ...pointwiseNumbers(
            shape,
            views.filter((view, k): view is View => view !== undefined && accesses[k] === 'view'),
          ),
        ],
      },
    );
  }

  #separateProducts(step: Extract<Step, { kind: 'products' }>, shape: readonly number[]): Slot {
    const { left, norm, parts } = step.products;
    const program = this.#program;
    const run = (value: Value, inputs: readonly Slot[]): Slot =>
      runOperation({
        ...{ program, value, shape: this.#shape(value), mayOverwrite: false },
        inputs: inputs.map((array, k) => ({ array, shape: this.#shape(value.inputs[k]) })),
      });
    const operand = norm
      ? run(norm, [this.#slot(left), this.#slot(norm.inputs[1])])
      : program.hold(this.#slot(left));
    const made = parts.map(({ product }) => run(product, [operand, this.#slot(product.inputs[1])]));
    program.release(operand);
    if (parts[0].product === step.value) return made[0];
    for (const [i, { product }] of parts.entries()) this.#slots.set(product, made[i]);
    const result = this.#pointwise(step, shape);
    for (const [i, { product }] of parts.entries()) {
      this.#slots.delete(product);
      program.release(made[i]);
    }
    return result;
  }

  /** Lets go of what no later step and no output needs. */
  #drop(at: number): void {
    for (const source of new Set(sourcesOf(this.#plan.steps[at]))) {
      const slot = this.#slots.get(source);
      if (!slot || this.#plan.lastUses.get(source) !== at || this.#kept.has(source)) continue;
      this.#program.release(slot);
      if (source.op !== 'state') this.#slots.delete(source);
    }
  }

  /** The state that a value follows, when nothing else needs what it held: it is written over. */
  #overwrites({ value, leaves }: Extract<Step, { kind: 'operation' }>, at: number): string | undefined {
    const [first] = value.inputs;
    if (value.op !== 'writeRows' || first.op !== 'state') return undefined;
    const name = first.attrs.name as string;
    const isFree = this.#slot(first).holders === 1 && !this.#kept.has(first);
    const isLast = this.#plan.lastUses.get(first) === at;
    const isApart = leaves.slice(1).every(({ source }) => source !== first);
    return isFree && isLast && isApart && this.#graph.states.get(name)?.after === value ? name : undefined;
  }

  #pointwise({ value, leaves, expression }: Pointwise, shape: readonly number[]): Slot {
    const views = leaves.map((leaf) => broadcastView(this.#view(leaf), shape));
    const accesses = views.map((view, k) => this.#access(leaves[k], view, shape));
    return this.#program.dispatch(
      pointwiseKernel(expression, accesses, shape.length),
      leaves.map(({ source }) => this.#slot(source)),
      {
        size: sizeOf(shape),
        type: typeOf(value),
        numbers: pointwiseNumbers(
          shape,
          views.filter((_, k) => accesses[k] === 'view'),
        ),
      },
    );
  }

  #access({ source }: Leaf, view: View, shape: readonly number[]): Access {
    const { size } = this.#slot(source);
    if (size === 1) return 'single';
    const isSame = view.offset === 0 && size === sizeOf(shape) && sameStrides(view, shape);
    return isSame ? 'same' : 'view';
  }

  #view({ source, views }: Leaf): View {
    let view = wholeView(this.#shape(source));
    for (const { op, attrs, shape: dims } of views) {
      const shape = evaluateShape(dims, this.#bindings);
      if (op === 'transpose') {
        const permutation = attrs.permutation as number[];
        view = { ...view, shape, strides: permutation.map((axis) => view.strides[axis]) };
      } else if (op === 'broadcastTo') {
        view = broadcastView(view, shape);
      } else if (op === 'reshape') {
        view = dividedView(view, shape);
      } else {
        const axis = attrs.axis as number;
        const start = evaluateDim(attrs.start as Parameters<typeof evaluateDim>[0], this.#bindings);
        view = { shape, strides: view.strides, offset: view.offset + start * view.strides[axis] };
      }
    }
    return view;
  }

  #slot(value: Value): Slot {
    return this.#slots.get(value) as Slot;
  }

  #shape(value: Value): readonly number[] {
    return shapeIn(value, this.#bindings);
  }
}

const typeOf = ({ dtype }: Value): ElementType => (dtype === 'f32' ? 'float32' : 'int32');

/** Whether a view reads as the array lies; axes of extent 1 do not matter. */
function sameStrides({ strides }: View, shape: readonly number[]): boolean {
  const own = stridesOf(shape);
  return shape.every((extent, axis) => extent === 1 || strides[axis] === own[axis]);
}
