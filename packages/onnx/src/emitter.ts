import {
  DetailFlowError,
  type Dim,
  type DType,
  dimTerms,
  plainSymbol,
  type Shape,
  type TypedData,
} from '@detailflow/core';
import { type AttributeProto, attribute, ELEMENT, type NodeProto, type TensorProto } from './proto';

/** Where a symbol's value can be read at run time: an axis of a graph input. */
export interface SymbolSource {
  readonly input: string;
  readonly axis: number;
}

/**
 * Collects ONNX nodes and constants while a graph is lowered. Nodes and values are named after the part of the model they
 * belong to: `/layers.3.attention.wqkv/MatMul`, and its result `/layers.3.attention.wqkv/MatMul_output_0`.
 */
export class Emitter {
  readonly nodes: NodeProto[] = [];
  readonly initializers: TensorProto[];
  readonly #symbols: ReadonlyMap<string, SymbolSource>;
  readonly #prefix: string;
  readonly #known = new Map<string, string>();
  readonly #sharedNodes = new Map<string, string[]>();
  /** How often each name was given. */
  readonly #counts = new Map<string, number>();
  #scope = '';

  /**
   * @param options.prefix keeps names apart where one model holds several graphs
   * @param options.initializersOf the emitter of the outer graph, which then takes the constants and weights
   */
  constructor(options: {
    readonly symbols: ReadonlyMap<string, SymbolSource>;
    readonly prefix?: string;
    readonly initializersOf?: Emitter;
  }) {
    this.#symbols = options.symbols;
    this.#prefix = options.prefix ?? '';
    this.initializers = options.initializersOf?.initializers ?? [];
  }

  /** Says which part of the model the nodes to come belong to. */
  enter(scope: string): void {
    this.#scope = scope;
  }

  /** Adds a node with one result and returns the result's name. */
  node(
    opType: string,
    input: readonly string[],
    attributes: readonly AttributeProto[] = [],
    domain = '',
  ): string {
    return this.nodeWithOutputs(opType, input, 1, attributes, domain)[0];
  }

  nodeWithOutputs(
    opType: string,
    input: readonly string[],
    outputs: number,
    attributes: readonly AttributeProto[] = [],
    domain = '',
  ): string[] {
    const name = this.#name(opType);
    const output = Array.from({ length: outputs }, (_, i) => `${name}_output_${i}`);
    this.nodes.push({ name, opType, input, output, domain, attribute: attributes });
    return output;
  }

  /** The results of a node that several operations of the graph share, made when it is first asked for. */
  shared(key: string, make: () => string[]): string[] {
    const known = this.#sharedNodes.get(key) ?? make();
    this.#sharedNodes.set(key, known);
    return known;
  }

  /** Gives a result another name. */
  copy(from: string, to: string): void {
    this.nodes.push({ name: this.#name(to), opType: 'Identity', input: [from], output: [to] });
  }

  /**
   * Gives results other names, [from, to]: those of nodes are renamed, at their first other name; what no node makes, and a
   * result under a second name, is copied.
   */
  rename(pairs: Iterable<readonly [string, string]>): void {
    const made = new Set(this.nodes.flatMap(({ output }) => output));
    const names = new Map<string, string>();
    const copies: (readonly [string, string])[] = [];
    for (const [from, to] of pairs) {
      if (made.has(from) && !names.has(from)) names.set(from, to);
      else copies.push([from, to]);
    }
    const renamed = (name: string) => names.get(name) ?? name;
    for (const [i, node] of this.nodes.entries()) {
      this.nodes[i] = { ...node, input: node.input.map(renamed), output: node.output.map(renamed) };
    }
    for (const [from, to] of copies) this.copy(renamed(from), to);
  }

  addInitializer(tensor: TensorProto): void {
    if (!this.initializers.some(({ name }) => name === tensor.name)) this.initializers.push(tensor);
  }

  constant(data: TypedData, dims: readonly number[], dtype: DType): string {
    const name = this.#name('Constant');
    const typed =
      dtype === 'f32'
        ? Float32Array.from(data)
        : dtype === 'i32'
          ? Int32Array.from(data)
          : Uint8Array.from(data);
    const dataType = { f32: ELEMENT.float, i32: ELEMENT.int32, bool: ELEMENT.bool }[dtype];
    this.initializers.push({ name, dims, dataType, rawData: new Uint8Array(typed.buffer) });
    return name;
  }

  /** A one-dimensional int64 constant; equal ones are shared. */
  int64(values: readonly number[]): string {
    return this.#once(`int64 ${values.join()}`, () => {
      const name = this.#name('Constant');
      const data = BigInt64Array.from(values, BigInt);
      this.initializers.push({
        name,
        dims: [values.length],
        dataType: ELEMENT.int64,
        rawData: new Uint8Array(data.buffer),
      });
      return name;
    });
  }

  /** A byte without axes; equal ones are shared. */
  uint8(value: number): string {
    return this.#once(`uint8 ${value}`, () => {
      const name = this.#name('Constant');
      this.initializers.push({ name, dims: [], dataType: ELEMENT.uint8, rawData: Uint8Array.of(value) });
      return name;
    });
  }

  /** An int64 without axes. */
  scalar(value: number): string {
    const name = this.#name('Constant');
    const data = BigInt64Array.of(BigInt(value));
    this.initializers.push({ name, dims: [], dataType: ELEMENT.int64, rawData: new Uint8Array(data.buffer) });
    return name;
  }

  /** An extent as an int64 tensor [1], computed at run time where it is symbolic. */
  dim(dim: Dim): string {
    if (typeof dim === 'number') return this.int64([dim]);
    return this.#once(`dim ${dim}`, () => {
      const terms = dimTerms(dim).map(({ factor, symbols }) => {
        const values = symbols.map((name) => this.#symbol(name));
        if (factor !== 1 || values.length === 0) values.push(this.int64([factor]));
        return values.reduce((a, b) => this.node('Mul', [a, b]));
      });
      return terms.reduce((a, b) => this.node('Add', [a, b]));
    });
  }

  /** A whole shape as an int64 tensor [rank]. */
  shape(shape: Shape): string {
    if (shape.every((dim) => typeof dim === 'number')) return this.int64(shape as number[]);
    return this.#once(`shape ${shape.join()}`, () =>
      this.node(
        'Concat',
        shape.map((dim) => this.dim(dim)),
        [attribute.int('axis', 0)],
      ),
    );
  }

  #name(kind: string): string {
    const scope = this.#scope === '' ? '' : `/${this.#scope}`;
    const base = `${this.#prefix}${scope}/${kind}`;
    const count = this.#counts.get(base) ?? 0;
    this.#counts.set(base, count + 1);
    return count === 0 ? base : `${base}_${count}`;
  }

  #symbol(name: string): string {
    return this.#once(`dim ${name}`, () => {
      const source = this.#symbols.get(name);
      if (!source) {
        throw new DetailFlowError(
          'shape',
          `no input has an axis of extent "${name}", so its value cannot be known`,
        );
      }
      const { input, axis } = source;
      return this.node('Shape', [input], [attribute.int('start', axis), attribute.int('end', axis + 1)]);
    });
  }

  #once(key: string, make: () => string): string {
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const scope = this.#scope;
    this.#scope = 'extents'; // whoever asks first
    const made = make();
    this.#scope = scope;
    this.#known.set(key, made);
    return made;
  }
}

/** Finds an axis for every symbol among inputs of the given names and shapes. */
export function findSymbols(inputs: Iterable<readonly [string, Shape]>): Map<string, SymbolSource> {
  const sources = new Map<string, SymbolSource>();
  for (const [input, shape] of inputs) {
    for (const [axis, dim] of shape.entries()) {
      const name = plainSymbol(dim);
      if (name !== undefined && !sources.has(name)) sources.set(name, { input, axis });
    }
  }
  return sources;
}
