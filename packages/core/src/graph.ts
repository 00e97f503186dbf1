import { checkOptions } from './check-options';
import { describe } from './describe';
import { type Dim, formatShape, type Shape, sameShape, sizeOf } from './dim';
import { DetailFlowError } from './errors';
import type { Attributes, DType, OpDefinition, TypedData } from './op';

/**
 * One node of a graph and the tensor it produces: an operation of the table (`ops/table.ts`) over other values,
 * or a leaf (`input`, `weight`, `state`, `constant`).
 */
export interface Value {
  readonly id: number;
  readonly op: string;
  readonly inputs: readonly Value[];
  readonly attrs: Attributes;
  readonly shape: Shape;
  readonly dtype: DType;
  /** The builder this value belongs to; values of different graphs never mix. */
  readonly graph: GraphBuilder;
}

/** A state buffer: its value before the run, and after; the same where it is only read. */
export interface StatePair {
  readonly before: Value;
  readonly after: Value;
}

/** A finished computation: plain data, pure (state goes in and comes out), in an order that can be executed. */
export interface Graph {
  readonly nodes: readonly Value[];
  readonly inputs: ReadonlyMap<string, Value>;
  readonly weights: ReadonlyMap<string, Value>;
  readonly states: ReadonlyMap<string, StatePair>;
  readonly outputs: ReadonlyMap<string, Value>;
}

/** Collects nodes while a model function runs. Get one from {@link trace}. */
export class GraphBuilder {
  readonly #nodes: Value[] = [];
  readonly #inputs = new Map<string, Value>();
  readonly #weights = new Map<string, Value>();
  readonly #states = new Map<string, { before: Value; after?: Value }>();
  readonly #keep?: ReadonlySet<string>;
  readonly #shared?: Map<string, Value>;

  /**
   * @param options.keepComposites the composite operations that become nodes; others are decomposed at once. All, if
   *   omitted
   * @param options.share the same operation on the same values gives the same node
   */
  constructor(options: { keepComposites?: ReadonlySet<string>; share?: boolean } = {}) {
    checkOptions('GraphBuilder', options, { keepComposites: true, share: true });
    this.#keep = options.keepComposites;
    if (options.share) this.#shared = new Map();
  }

  /** The inputs declared so far. */
  get inputs(): ReadonlyMap<string, Value> {
    return this.#inputs;
  }

  /** A tensor that is fed at every run. */
  input(name: string, dtype: DType, shape: Shape): Value {
    if (this.#inputs.has(name))
      throw new DetailFlowError('invalid-argument', `there are two inputs "${name}"`);
    const value = this.leaf('input', { name }, shape, dtype);
    this.#inputs.set(name, value);
    return value;
  }

  /** A named float32 parameter of concrete shape. The same name gives the same value. */
  weight(name: string, shape: readonly number[]): Value {
    const known = this.#weights.get(name);
    if (known) {
      if (!sameShape(known.shape, shape)) {
        throw new DetailFlowError(
          'shape',
          `the weight is used as ${formatShape(known.shape)} and as ${formatShape(shape)}`,
          { entry: name },
        );
      }
      return known;
    }
    const value = this.leaf('weight', { name }, shape, 'f32');
    this.#weights.set(name, value);
    return value;
  }

  /** A buffer that lives from run to run; give its next value to {@link update}, or it keeps the one it has. */
  state(name: string, shape: Shape, dtype: DType = 'f32'): Value {
    if (this.#states.has(name))
      throw new DetailFlowError('invalid-argument', `there are two states "${name}"`);
    const before = this.leaf('state', { name }, shape, dtype);
    this.#states.set(name, { before });
    return before;
  }

  /** Says what a state holds after the run. */
  update(name: string, after: Value): void {
    this.requireOwn(`the update of the state "${name}"`, after);
    const pair = this.#states.get(name);
    if (!pair || pair.after) {
      throw new DetailFlowError(
        'invalid-argument',
        `the state "${name}" is ${pair ? 'updated twice' : 'unknown'}`,
      );
    }
    const { shape, dtype } = pair.before;
    if (!sameShape(shape, after.shape) || after.dtype !== dtype) {
      throw new DetailFlowError(
        'shape',
        `the state "${name}" is ${dtype} ${formatShape(shape)}, its update ${after.dtype} ${formatShape(after.shape)}`,
      );
    }
    pair.after = after;
  }

  /** A tensor known now. `data` is row-major and is not copied. */
  constant(data: TypedData, shape: readonly number[], dtype: DType = 'f32'): Value {
    if (!Array.isArray(shape) || !ArrayBuffer.isView(data)) {
      throw new DetailFlowError(
        'invalid-argument',
        `a constant of ${describe(data)} and shape ${describe(shape)}; give a typed array, then its shape`,
      );
    }
    if (data.length !== sizeOf(shape)) {
      throw new DetailFlowError(
        'shape',
        `${data.length} values do not fill a constant ${formatShape(shape)}`,
      );
    }
    return this.leaf('constant', { data }, shape, dtype);
  }

  /** Appends an operation; used by the functions of `ops/`. */
  emit<A extends Attributes>(definition: OpDefinition<A>, inputs: readonly Value[], attrs: A): Value {
    for (const input of inputs) this.requireOwn(definition.name, input);
    const { shape, dtype } = definition.infer(inputs, attrs);
    if (definition.decompose && this.#keep && !this.#keep.has(definition.name)) {
      return definition.decompose(inputs, attrs);
    }
    return this.append({ op: definition.name, inputs, attrs, shape, dtype });
  }

  /** @internal */
  finish(outputs: Readonly<Record<string, Value>>): Graph {
    for (const [name, value] of Object.entries(outputs)) {
      this.requireOwn(`the output "${name}"`, value);
      if (this.#inputs.has(name)) {
        throw new DetailFlowError(
          'invalid-argument',
          `"${name}" is both an input and an output: name them apart`,
        );
      }
    }
    const states = new Map<string, StatePair>();
    for (const [name, { before, after = before }] of this.#states) states.set(name, { before, after });
    const roots = [...Object.values(outputs), ...[...states.values()].map((pair) => pair.after)];
    const needed = reachable([
      ...roots,
      ...this.#inputs.values(),
      ...[...states.values()].map((p) => p.before),
    ]);
    return {
      nodes: this.#nodes.filter((node) => needed.has(node)),
      inputs: this.#inputs,
      weights: new Map([...this.#weights].filter(([, value]) => needed.has(value))),
      states,
      outputs: new Map(Object.entries(outputs)),
    };
  }

  private leaf(op: string, attrs: Attributes, shape: Shape, dtype: DType): Value {
    return this.append({ op, inputs: [], attrs, shape, dtype });
  }

  private requireOwn(what: string, value: Value): void {
    if (value.graph !== this) {
      throw new DetailFlowError('invalid-argument', `${what}: a value of another graph was given`);
    }
  }

  private append(node: Omit<Value, 'id' | 'graph'>): Value {
    if (!Array.isArray(node.shape)) {
      throw new DetailFlowError(
        'shape',
        `${node.op}: the shape is ${describe(node.shape)}; give a list of extents`,
      );
    }
    if (node.shape.some((dim) => typeof dim === 'number' && !(Number.isInteger(dim) && dim >= 0))) {
      throw new DetailFlowError(
        'shape',
        `${node.op}: the extents of ${formatShape(node.shape)} must be whole numbers from 0`,
      );
    }
    const key = this.#shared && sharingKey(node);
    const known = key && this.#shared?.get(key);
    if (known) return known;
    const value: Value = { ...node, id: this.#nodes.length, graph: this };
    this.#nodes.push(value);
    if (key) this.#shared?.set(key, value);
    return value;
  }
}

/**
 * Runs a model function and records what it computes.
 * @returns the graph of `outputs`; what no output or state update needs is left out
 * @see https://detailflow.github.io/detailflow-ts/house/add-an-operation.html
 */
export function trace(build: (graph: GraphBuilder) => Readonly<Record<string, Value>>): Graph {
  const builder = new GraphBuilder();
  return builder.finish(build(builder));
}

/** Constants of more elements are not looked at for equal ones. */
const SHARED_CONSTANT = 16;

/** Equal for nodes that compute the same; undefined for those that are never shared. */
function sharingKey({ op, inputs, attrs, shape, dtype }: Omit<Value, 'id' | 'graph'>): string | undefined {
  if (op === 'input' || op === 'weight' || op === 'state') return undefined;
  const data = attrs.data as TypedData | undefined;
  if (data && data.length > SHARED_CONSTANT) return undefined;
  const details = Object.entries(attrs).map(([name, value]) => `${name}=${value}`);
  const values = Array.from(data ?? [], (x) => (Object.is(x, -0) ? '-0' : x));
  return [op, dtype, formatShape(shape), inputs.map(({ id }) => id), details, values].join(';');
}

function reachable(roots: readonly Value[]): Set<Value> {
  const seen = new Set<Value>();
  const pending = [...roots];
  for (let value = pending.pop(); value; value = pending.pop()) {
    if (seen.has(value)) continue;
    seen.add(value);
    pending.push(...value.inputs);
  }
  return seen;
}

/** The extent of an axis; negative axes count from the end. */
export function extent(value: Value, axis: number): Dim {
  return value.shape[axis < 0 ? value.shape.length + axis : axis];
}
