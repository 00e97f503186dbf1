import {
  DetailFlowError,
  type DType,
  expandComposites,
  type Graph,
  type Shape,
  type Value,
} from '@detailflow/core';
import { Emitter, findSymbols } from './emitter';
import { ELEMENT, encodeModel, type TensorProto, type ValueInfoProto } from './proto';
import { type Dialect, fusedOperations, rules } from './rules';

/** Where a weight's float32 bytes are: in the model itself, or at an offset of a file beside it. */
export type WeightPlacement =
  | { readonly inline: Float32Array }
  | { readonly file: string; readonly offset: number; readonly length: number };

export interface OnnxOptions {
  /** 'standard' runs in any ONNX runtime; 'onnxruntime' also uses operators only ONNX Runtime has. */
  readonly dialect?: Dialect;
  /** Says for every weight of the graph where its bytes are. */
  readonly placeWeight: (name: string, shape: readonly number[]) => WeightPlacement;
  /**
   * When a state is updated by writing rows, return only those rows and leave the writing to the caller, instead
   * of returning the whole buffer.
   */
  readonly rowUpdates?: boolean;
}

/** How the caller brings a state up to date after a run. */
export interface OnnxState {
  readonly name: string;
  readonly shape: Shape;
  /** Model input that takes the state before the run. */
  readonly input: string;
  /** Model output with the whole new state, or with the rows to write at row `offset` (int32 [1]) of `axis`. */
  readonly output: string;
  readonly rows?: { readonly axis: number; readonly offset: string };
}

export interface OnnxModel {
  /** The .onnx file. */
  readonly bytes: Uint8Array;
  readonly states: readonly OnnxState[];
}

const elementTypes: Readonly<Record<DType, number>> = {
  f32: ELEMENT.float,
  i32: ELEMENT.int32,
  bool: ELEMENT.bool,
};

/**
 * Writes a graph as an ONNX model (opset 21). Inputs and outputs keep their names; states become the inputs and
 * outputs that {@link OnnxModel.states} lists.
 * @throws DetailFlowError `unsupported` for an operation without a rule, `shape` for an extent no input tells
 */
export function toOnnx(graph: Graph, options: OnnxOptions): OnnxModel {
  const dialect = options.dialect ?? 'standard';
  const expanded = expandComposites(graph, fusedOperations[dialect]);
  const stateInput = (name: string) => `state.${name}`;
  const emitter = new Emitter(
    findSymbols([
      ...[...expanded.inputs].map(([name, value]) => [name, value.shape] as const),
      ...[...expanded.states].map(([name, { before }]) => [stateInput(name), before.shape] as const),
    ]),
  );

  const states: OnnxState[] = [];
  const skipped = new Set<Value>(); // writes that the caller does
  if (options.rowUpdates) {
    const readers = countReaders(expanded);
    for (const { before, after } of expanded.states.values()) {
      if (after.op === 'writeRows' && after.inputs[0] === before && readers.get(after) === 1)
        skipped.add(after);
    }
  }

  const names = new Map<Value, string>();
  for (const node of expanded.nodes) {
    if (!skipped.has(node)) names.set(node, lower(node));
  }
  const outputs: ValueInfoProto[] = [];
  for (const [name, value] of expanded.outputs) expose(name, value);
  for (const [name, { before, after }] of expanded.states) {
    const output = `next.${name}`;
    if (skipped.has(after)) {
      const offset = `offset.${name}`;
      expose(output, after.inputs[1]);
      expose(offset, after.inputs[2]);
      states.push({
        name,
        shape: before.shape,
        input: stateInput(name),
        output,
        rows: { axis: after.attrs.axis as number, offset },
      });
    } else {
      expose(output, after);
      states.push({ name, shape: before.shape, input: stateInput(name), output });
    }
  }

  const inputs = [
    ...[...expanded.inputs].map(([name, value]) => describe(name, value)),
    ...[...expanded.states].map(([name, { before }]) => describe(stateInput(name), before)),
  ];
  const bytes = encodeModel({
    irVersion: 10,
    producerName: 'detailflow',
    opsetImport: [
      { domain: '', version: 21 },
      ...(dialect === 'onnxruntime' ? [{ domain: 'com.microsoft', version: 1 }] : []),
    ],
    graph: {
      name: 'detailflow',
      node: emitter.nodes,
      initializer: emitter.initializers,
      input: inputs,
      output: outputs,
    },
  });
  return { bytes, states };

  function lower(value: Value): string {
    const name = value.attrs.name as string;
    if (value.op === 'input') return name;
    if (value.op === 'state') return stateInput(name);
    if (value.op === 'constant') {
      return emitter.constant(value.attrs.data as Float32Array, value.shape as number[], value.dtype);
    }
    if (value.op === 'weight') {
      emitter.initializers.push(weightTensor(name, value.shape as number[], options.placeWeight));
      return `weight.${name}`;
    }
    const rule = rules[value.op];
    if (!rule) throw new DetailFlowError('unsupported', `the operation "${value.op}" has no ONNX form`);
    const inputs = value.inputs.map((input) => names.get(input) as string);
    return rule(value, inputs, { emitter, dialect });
  }

  function expose(name: string, value: Value): void {
    emitter.nodes.push({ opType: 'Identity', input: [names.get(value) as string], output: [name] });
    outputs.push(describe(name, value));
  }
}

function weightTensor(name: string, dims: readonly number[], place: OnnxOptions['placeWeight']): TensorProto {
  const placement = place(name, dims);
  const tensor = { name: `weight.${name}`, dims, dataType: ELEMENT.float };
  if ('inline' in placement) {
    const { buffer, byteOffset, byteLength } = placement.inline;
    return { ...tensor, rawData: new Uint8Array(buffer, byteOffset, byteLength) };
  }
  return {
    ...tensor,
    dataLocation: 1,
    externalData: [
      { key: 'location', value: placement.file },
      { key: 'offset', value: `${placement.offset}` },
      { key: 'length', value: `${placement.length}` },
    ],
  };
}

function describe(name: string, value: Value): ValueInfoProto {
  const dim = value.shape.map((d) => (typeof d === 'number' ? { dimValue: d } : { dimParam: `${d}` }));
  return { name, type: { tensorType: { elemType: elementTypes[value.dtype], shape: { dim } } } };
}

/** How often each value is read: by nodes, outputs and state updates. */
function countReaders(graph: Graph): Map<Value, number> {
  const counts = new Map<Value, number>();
  const count = (value: Value) => counts.set(value, (counts.get(value) ?? 0) + 1);
  for (const node of graph.nodes) node.inputs.forEach(count);
  for (const value of graph.outputs.values()) count(value);
  for (const { after } of graph.states.values()) count(after);
  return counts;
}
