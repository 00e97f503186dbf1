import {
  checkOptions,
  type DType,
  expandComposites,
  type Graph,
  type Shape,
  type Value,
} from '@detailflow/core';
import { countReaders } from './count-readers';
import { Emitter, findSymbols } from './emitter';
import { describe, type LoweringOptions, lowerNodes } from './lower-graph';
import { encodeModel, opsets, type ValueInfoProto } from './proto';
import { type Dialect, fusedOperations } from './rules';

/** Options of {@link toOnnx}. */
export interface OnnxOptions extends Omit<LoweringOptions, 'dialect'> {
  /** 'standard' (the default) runs in any ONNX runtime; 'onnxruntime' also uses operators only ONNX Runtime has. */
  readonly dialect?: Dialect;
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
  readonly dtype: DType;
  /** Model input that takes the state before the run. */
  readonly input: string;
  /**
   * Model output with the whole new state, or with the rows to write at row `offset` (int32 [1]) of `axis`; none when
   * the state is only read.
   */
  readonly output?: string;
  readonly rows?: {
    readonly axis: number;
    /**
     * Model output with the first row, int32 [1]; or, in a buffer of 4 axes, with the place of each row of each entry, int32
     * [B, L]. States whose rows are written at the same place share it.
     */
    readonly offset: string;
  };
}

/** A model in bytes, and the names of what goes in and out. */
export interface OnnxModel {
  /** The .onnx file. */
  readonly bytes: Uint8Array;
  readonly states: readonly OnnxState[];
}

/**
 * Writes a graph as an ONNX model (opset 21). Inputs and outputs keep their names; states become the inputs and
 * outputs that {@link OnnxModel.states} lists.
 * @throws DetailFlowError `unsupported` for an operation without a rule, `shape` for an extent no input tells
 * @see https://detailflow.github.io/detailflow-ts/packages/onnx.html
 */
export function toOnnx(graph: Graph, options: OnnxOptions): OnnxModel {
  checkOptions('toOnnx', options, {
    dialect: true,
    target: true,
    rowUpdates: true,
    placeWeight: true,
    quantised: true,
  });
  const dialect = options.dialect ?? 'standard';
  const expanded = expandComposites(graph, fusedOperations[dialect]);
  const leaves = new Map<Value, string>([
    ...[...expanded.inputs].map(([name, value]) => [value, name] as const),
    ...[...expanded.states].map(([name, { before }]) => [before, `state.${name}`] as const),
  ]);
  const emitter = new Emitter({
    symbols: findSymbols([...leaves].map(([value, name]) => [name, value.shape])),
  });
  const skipped = options.rowUpdates ? rowWrites(expanded) : new Set<Value>();
  const names = lowerNodes(expanded, emitter, { ...options, dialect, leaves, skipped });

  const outputs: ValueInfoProto[] = [];
  const exposed: [string, string][] = [];
  const expose = (name: string, value: Value) => {
    exposed.push([names.get(value) as string, name]);
    outputs.push(describe(name, value));
  };
  const offsets = new Map<Value, string>();
  for (const [name, value] of expanded.outputs) expose(name, value);
  const states = [...expanded.states].map(([name, { before, after }]): OnnxState => {
    const { shape, dtype } = before;
    const kept = { name, shape, dtype, input: `state.${name}` };
    if (after === before) return kept;
    const state = { ...kept, output: `next.${name}` };
    if (!skipped.has(after)) {
      expose(state.output, after);
      return state;
    }
    const [, rows, at] = after.inputs;
    const offset = offsets.get(at) ?? `offset.${name}`;
    expose(state.output, rows);
    if (!offsets.has(at)) expose(offset, at);
    offsets.set(at, offset);
    return { ...state, rows: { axis: (after.attrs.axis as number | undefined) ?? 2, offset } };
  });

  emitter.rename(exposed);

  const bytes = encodeModel({
    irVersion: 10,
    producerName: 'detailflow',
    opsetImport: opsets(dialect === 'onnxruntime'),
    graph: {
      name: 'detailflow',
      node: emitter.nodes,
      initializer: emitter.initializers,
      input: [...leaves].map(([value, name]) => describe(name, value)),
      output: outputs,
    },
  });
  return { bytes, states };
}

/** Operations that write rows over a buffer; the second of them always along axis 2. */
const ROW_WRITES = ['writeRows', 'writeRowsAt'];

/** State updates that write rows and that nothing else reads: the caller can do them. */
function rowWrites(graph: Graph): Set<Value> {
  const readers = countReaders(graph);
  const writes = [...graph.states.values()]
    .filter(
      ({ before, after }) =>
        ROW_WRITES.includes(after.op) && after.inputs[0] === before && readers.get(after) === 1,
    )
    .map(({ after }) => after);
  return new Set(writes);
}
