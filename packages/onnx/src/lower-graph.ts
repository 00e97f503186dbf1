import { DetailFlowError, type DType, type Graph, type Shape, type Value } from '@detailflow/core';
import { type Division, divisionsOf } from './divisions';
import type { Emitter } from './emitter';
import { enlargementsOf } from './enlargements';
import { ELEMENT, type TensorProto, type ValueInfoProto } from './proto';
import type { QuantisedMatrix } from './quantise';
import type { QuantisedInitializers } from './rounded-product';
import { type Dialect, rules, type Target } from './rules';

/** Where a weight's float32 bytes are: in the model itself, or at an offset of a file beside it. */
export type WeightPlacement = { readonly inline: Float32Array } | FilePlacement;

/** Bytes in the model itself, or in a file beside it. */
export type BytesPlacement = { readonly inline: Uint8Array } | FilePlacement;

/** Bytes in a file beside the model: its name, first byte, and number of bytes. */
export interface FilePlacement {
  readonly file: string;
  readonly offset: number;
  readonly length: number;
}

/** A matrix in few bits, and where its bytes are. */
export interface PlacedMatrix extends Omit<QuantisedMatrix, 'values' | 'scales'> {
  /** Whether what goes into its product keeps more than 8 bits: see `fineInputs`. Of matrices with a scale a row. */
  readonly fine?: boolean;
  /** Whether its levels are bytes from 1 to 255, 128 more than they stand for. Of matrices with a scale a row. */
  readonly unsigned?: boolean;
  readonly values: BytesPlacement;
  readonly scales: BytesPlacement;
}

/** How a graph becomes ONNX, and where its weights are. */
export interface LoweringOptions {
  readonly dialect: Dialect;
  /** 'webgpu' writes sines and cosines out: what a WebGPU driver computes of them may be off by 1e-4. Default: 'any'. */
  readonly target?: Target;
  /** Says for every weight of the graph where its bytes are. */
  readonly placeWeight: (name: string, shape: readonly number[]) => WeightPlacement;
  /** Weights held in few bits, by name; `placeWeight` is not asked for them. Dialect 'onnxruntime' only. */
  readonly quantised?: ReadonlyMap<string, PlacedMatrix>;
}

/**
 * Lowers the nodes of a graph without composites the dialect does not know.
 * @param leaves names of inputs and states
 * @param skipped nodes to leave out
 * @returns the names of all values
 */
export function lowerNodes(
  graph: Graph,
  emitter: Emitter,
  options: LoweringOptions & {
    readonly leaves: ReadonlyMap<Value, string>;
    readonly skipped?: ReadonlySet<Value>;
  },
): ReadonlyMap<Value, string> {
  const { dialect, target = 'any', leaves, skipped } = options;
  const quantised = new Map<string, QuantisedInitializers>();
  const names = new Map<Value, string>(leaves);
  const divisions = dialect === 'onnxruntime' ? divisionsOf(graph) : new Map<Value, Division>();
  const { forms, steps } = enlargementsOf(graph, { convolutions: dialect === 'onnxruntime' });
  const scopes = new Scopes();
  for (const node of graph.nodes) {
    if (names.has(node) || steps.has(node) || skipped?.has(node)) continue;
    emitter.enter(scopes.of(node));
    names.set(node, lower(node));
  }
  emitter.enter('');
  return names;

  function lower(value: Value): string {
    if (value.op === 'constant') {
      return emitter.constant(value.attrs.data as Float32Array, value.shape as number[], value.dtype);
    }
    if (value.op === 'weight') return lowerWeight(value.attrs.name as string, value.shape as number[]);
    const rule = rules[value.op];
    if (!rule) throw new DetailFlowError('unsupported', `the operation "${value.op}" has no ONNX form`);
    const form = forms.get(value);
    if (form) return form((one) => names.get(one) as string, emitter);
    const inputs = value.inputs.map((input) => names.get(input) as string);
    return rule(value, inputs, { emitter, dialect, target, divisions, quantised });
  }

  function lowerWeight(name: string, shape: readonly number[]): string {
    const matrix = options.quantised?.get(name);
    if (matrix)
      quantised.set(name, addMatrix(emitter, name, matrix)); // read by matrix products only
    else emitter.addInitializer(weightTensor(name, shape, options.placeWeight));
    return `weight.${name}`;
  }
}

/** The part of a model that a node belongs to, told by the weights' names and the order in which models are written. */
class Scopes {
  #surrounding = '';
  /** The one input that a value is made of. */
  readonly #origins = new Map<Value, string>();

  /**
   * `layers.3.attention.wqkv` for what reads its weight, and `layers.3.attention` for what comes after it; the name of an
   * input for what is made of that alone.
   */
  of(value: Value): string {
    const weight = value.inputs.find(({ op }) => op === 'weight');
    if (weight) {
      const module = outer(weight.attrs.name as string) || (weight.attrs.name as string);
      this.#surrounding = outer(module);
      return module;
    }
    const [origin, ...others] = value.inputs
      .filter(({ op }) => op !== 'constant')
      .map((input) => (input.op === 'input' ? (input.attrs.name as string) : this.#origins.get(input)));
    if (origin === undefined || others.some((other) => other !== origin)) return this.#surrounding;
    this.#origins.set(value, origin);
    return origin;
  }
}

const outer = (name: string): string => name.slice(0, Math.max(0, name.lastIndexOf('.')));

const elementTypes: Readonly<Record<DType, number>> = {
  f32: ELEMENT.float,
  i32: ELEMENT.int32,
  bool: ELEMENT.bool,
};

/** An input or output of a model. */
export function describe(name: string, { shape, dtype }: { shape: Shape; dtype: DType }): ValueInfoProto {
  const dim = shape.map((d) => (typeof d === 'number' ? { dimValue: d } : { dimParam: `${d}` }));
  return { name, type: { tensorType: { elemType: elementTypes[dtype], shape: { dim } } } };
}

function weightTensor(
  name: string,
  dims: readonly number[],
  place: LoweringOptions['placeWeight'],
): TensorProto {
  const placement = place(name, dims);
  const bytes = 'inline' in placement ? { inline: bytesOf(placement.inline) } : placement;
  return placedTensor(`weight.${name}`, dims, ELEMENT.float, bytes);
}

function addMatrix(emitter: Emitter, name: string, matrix: PlacedMatrix): QuantisedInitializers {
  const { bits, block, out } = matrix;
  const [values, scales] = [`weight.${name}.q${bits}`, `weight.${name}.scales`];
  if (block === 'row') {
    const type = matrix.unsigned ? ELEMENT.uint8 : ELEMENT.int8;
    emitter.addInitializer(placedTensor(values, [matrix.in, out], type, matrix.values));
    emitter.addInitializer(placedTensor(scales, [out], ELEMENT.float, matrix.scales));
    return { ...matrix, values, scales };
  }
  const blocks = Math.ceil(matrix.in / block);
  const dims = [out, blocks, (block * bits) / 8];
  emitter.addInitializer(placedTensor(values, dims, ELEMENT.uint8, matrix.values));
  emitter.addInitializer(placedTensor(scales, [out * blocks], ELEMENT.float, matrix.scales));
  return { ...matrix, values, scales };
}

function placedTensor(
  name: string,
  dims: readonly number[],
  dataType: number,
  placement: BytesPlacement,
): TensorProto {
  if ('inline' in placement) return { name, dims, dataType, rawData: placement.inline };
  return {
    name,
    dims,
    dataType,
    dataLocation: 1,
    externalData: [
      { key: 'location', value: placement.file },
      { key: 'offset', value: `${placement.offset}` },
      { key: 'length', value: `${placement.length}` },
    ],
  };
}

const bytesOf = ({ buffer, byteOffset, byteLength }: Float32Array): Uint8Array =>
  new Uint8Array(buffer, byteOffset, byteLength);
