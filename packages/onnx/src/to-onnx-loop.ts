import {
  checkOptions,
  DetailFlowError,
  expandComposites,
  type Graph,
  plainSymbol,
  type Value,
} from '@detailflow/core';
import { Emitter, findSymbols, type SymbolSource } from './emitter';
import { describe, type LoweringOptions, lowerNodes } from './lower-graph';
import { attribute, ELEMENT, encodeModel, opsets, type ValueInfoProto } from './proto';
import { type Dialect, fusedOperations } from './rules';

/** Options of {@link toOnnxLoop}: the body, how often it runs, and what follows. */
export interface OnnxLoopOptions extends Omit<LoweringOptions, 'dialect'> {
  readonly dialect?: Dialect;
  /** Run again and again; its states go from one run to the next, beginning with zeros. It has no outputs. */
  readonly body: Graph;
  /** Input of the body, i32 [1], that takes the number of the run, from 0. */
  readonly counter: string;
  readonly iterations: number;
  /** Run once afterwards; its inputs bear the names of final states of the body. */
  readonly last: Graph;
}

/**
 * Inputs that share a symbol must have the same extent there: others are given that shape at run time, which fails where
 * they have another one. Without it an extent of 1 would be spread over all.
 */
function agreeing(
  inputs: readonly (readonly [string, Value])[],
  symbols: ReadonlyMap<string, SymbolSource>,
  emitter: Emitter,
): Map<Value, string> {
  const names = new Map<Value, string>();
  for (const [name, value] of inputs) {
    emitter.enter(name);
    const isFollower = value.shape.some((dim) => {
      const symbol = plainSymbol(dim);
      return symbol !== undefined && symbols.get(symbol)?.input !== name;
    });
    const shaped = () =>
      emitter.node('Reshape', [name, emitter.shape(value.shape)], [attribute.int('allowzero', 1)]);
    names.set(value, isFollower ? shaped() : name);
  }
  emitter.enter('');
  return names;
}

/**
 * Writes "run `body` so many times, then `last`" as one self-contained ONNX model with the standard Loop operator.
 * Its inputs are those of the body but for the counter, its outputs those of `last`.
 */
export function toOnnxLoop(options: OnnxLoopOptions): Uint8Array {
  checkOptions('toOnnxLoop', options, {
    dialect: true,
    body: true,
    counter: true,
    iterations: true,
    last: true,
    target: true,
    placeWeight: true,
    quantised: true,
  });
  const { counter, iterations } = options;
  const dialect = options.dialect ?? 'standard';
  const body = expandComposites(options.body, fusedOperations[dialect]);
  const last = expandComposites(options.last, fusedOperations[dialect]);
  const inputs = [...body.inputs].filter(([name]) => name !== counter);
  const states = [...body.states];
  const symbols = findSymbols(inputs.map(([name, value]) => [name, value.shape]));
  const main = new Emitter({ symbols });

  // The body: an inner graph that sees the inputs and weights of the outer one.
  const inner = new Emitter({ symbols, prefix: 'body', initializersOf: main });
  const leaves = agreeing(inputs, symbols, main);
  for (const [name, { before }] of states) leaves.set(before, `before.${name}`);
  const count = body.inputs.get(counter);
  if (!count) throw new DetailFlowError('invalid-argument', `the body has no input "${counter}"`);
  const run = inner.node('Cast', ['body.iteration'], [attribute.int('to', ELEMENT.int32)]);
  leaves.set(count, inner.node('Reshape', [run, inner.int64([1])]));
  const innerNames = lowerNodes(body, inner, { ...options, dialect, leaves });
  inner.copy('body.condition', 'body.continue');
  for (const [name, state] of states) inner.copy(innerNames.get(state.after) as string, `after.${name}`);
  const loopBody = {
    name: 'body',
    node: inner.nodes,
    initializer: [],
    input: [
      { name: 'body.iteration', type: { tensorType: { elemType: ELEMENT.int64, shape: { dim: [] } } } },
      { name: 'body.condition', type: { tensorType: { elemType: ELEMENT.bool, shape: { dim: [] } } } },
      ...states.map(([name, { before }]) => describe(`before.${name}`, before)),
    ],
    output: [
      { name: 'body.continue', type: { tensorType: { elemType: ELEMENT.bool, shape: { dim: [] } } } },
      ...states.map(([name, { before }]) => describe(`after.${name}`, before)),
    ],
  };

  // The outer graph: zeros, the loop, what comes after.
  const zeros = states.map(([, { before }]) => {
    const zero = main.constant(new Float32Array(1), [], before.dtype);
    return main.node('Expand', [zero, main.shape(before.shape)]);
  });
  main.nodes.push({
    name: '/Loop',
    opType: 'Loop',
    input: [main.scalar(iterations), '', ...zeros],
    output: states.map(([name]) => `final.${name}`),
    attribute: [attribute.graph('body', loopBody)],
  });
  const finals = new Map<Value, string>();
  for (const [name, value] of last.inputs) {
    if (!body.states.has(name))
      throw new DetailFlowError('invalid-argument', `the body has no state "${name}"`);
    finals.set(value, `final.${name}`);
  }
  const names = lowerNodes(last, main, { ...options, dialect, leaves: finals });
  const outputs: ValueInfoProto[] = [];
  for (const [name, value] of last.outputs) {
    main.copy(names.get(value) as string, name);
    outputs.push(describe(name, value));
  }
  return encodeModel({
    irVersion: 10,
    producerName: 'detailflow',
    opsetImport: opsets(dialect === 'onnxruntime'),
    graph: {
      name: 'detailflow',
      node: main.nodes,
      initializer: main.initializers,
      input: inputs.map(([name, value]) => describe(name, value)),
      output: outputs,
    },
  });
}
