import { type Dim, extent, sameDim, sameShape, type Value } from '@detailflow/core';
import type { Division } from './divisions';
import type { Emitter } from './emitter';
import { attribute, ELEMENT, MICROSOFT } from './proto';
import { blockProduct, type QuantisedInitializers, rowProduct } from './rounded-product';

/** Which operators may appear: those of the ONNX standard, or also the ones only ONNX Runtime knows. */
export type Dialect = 'standard' | 'onnxruntime';

/** What the model is to run on, where that matters. */
export type Target = 'any' | 'webgpu';

export interface RuleContext {
  readonly emitter: Emitter;
  readonly dialect: Dialect;
  readonly target: Target;
  /** Slices that are parts of one cut. */
  readonly divisions: ReadonlyMap<Value, Division>;
  /** Weights that are held in few bits: the names of their initialisers. */
  readonly quantised: ReadonlyMap<string, QuantisedInitializers>;
}

/** Turns one operation into ONNX nodes; `inputs` are names of the operands' results. */
export type Rule = (value: Value, inputs: readonly string[], context: RuleContext) => string;

/** An operation that ONNX has under another name. */
const direct =
  (opType: string): Rule =>
  (_value, inputs, { emitter }) =>
    emitter.node(opType, inputs);

const reduce =
  (opType: string): Rule =>
  (value, [x], { emitter }) =>
    emitter.node(
      opType,
      [x, emitter.int64(value.attrs.axes as number[])],
      [attribute.int('keepdims', 1), attribute.int('noop_with_empty_axes', 1)],
    );

const matmul: Rule = (value, inputs, { emitter, dialect, quantised }) => {
  const [, weight] = value.inputs;
  const matrix = weight.op === 'weight' ? quantised.get(weight.attrs.name as string) : undefined;
  if (matrix?.block === 'row') return rowProduct(inputs[0], matrix, value.shape, emitter);
  if (matrix) return blockProduct(inputs[0], matrix, emitter);
  const flags = [value.attrs.transposeA, value.attrs.transposeB] as boolean[];
  if (!flags.includes(true)) return emitter.node('MatMul', inputs);
  if (dialect === 'onnxruntime') {
    const attributes = [attribute.int('transA', Number(flags[0])), attribute.int('transB', Number(flags[1]))];
    return emitter.node('FusedMatMul', inputs, attributes, MICROSOFT);
  }
  const operands = inputs.map((input, i) => {
    if (!flags[i]) return input;
    const rank = value.inputs[i].shape.length;
    const order = Array.from({ length: rank }, (_, axis) => axis);
    [order[rank - 2], order[rank - 1]] = [rank - 1, rank - 2];
    return emitter.node('Transpose', [input], [attribute.ints('perm', order)]);
  });
  return emitter.node('MatMul', operands);
};

const broadcastTo: Rule = ({ shape, dtype }, [x], { emitter }) => {
  // Expand would turn an extent of 0 into 1.
  if (shape.includes(0) && shape.every(isNumber)) return emitter.constant(new Float32Array(0), shape, dtype);
  return emitter.node('Expand', [x, emitter.shape(shape)]);
};

const isNumber = (dim: Dim): dim is number => typeof dim === 'number';

/** 0 copies an extent and one -1 is inferred; only where that does not suffice is the shape computed. */
const reshape: Rule = (value, [x], { emitter }) => {
  const [from, to] = [value.inputs[0].shape, value.shape];
  if (sameShape(from, to)) return x;
  const unknown = to.filter((dim, axis) => typeof dim !== 'number' && !isCopied(dim, from[axis]));
  if (to.includes(0) || unknown.length > 1) {
    return emitter.node('Reshape', [x, emitter.shape(to)], [attribute.int('allowzero', 1)]);
  }
  const target = to.map((dim, axis) => (typeof dim === 'number' ? dim : isCopied(dim, from[axis]) ? 0 : -1));
  return emitter.node('Reshape', [x, emitter.int64(target)]);
};

const isCopied = (dim: Dim, from: Dim | undefined): boolean => from !== undefined && sameDim(dim, from);

const sliceAlong = (emitter: Emitter, x: string, axis: number, start: string, end: string): string =>
  emitter.node('Slice', [x, start, end, emitter.int64([axis])]);

const slice: Rule = (value, [x], { emitter, divisions }) => {
  const division = divisions.get(value);
  if (division) return partOf(division, value, x, emitter);
  const { attrs } = value;
  return sliceAlong(
    emitter,
    x,
    attrs.axis as number,
    emitter.dim(attrs.start as Dim),
    emitter.dim(attrs.end as Dim),
  );
};

function partOf({ axis, parts, sizes }: Division, part: Value, x: string, emitter: Emitter): string {
  const outputs = emitter.shared(`parts of ${x}`, () =>
    emitter.nodeWithOutputs('Split', [x, emitter.shape(sizes)], parts.length, [attribute.int('axis', axis)]),
  );
  return outputs[parts.indexOf(part)];
}

const writeRows: Rule = (value, [buffer, rows, offset], { emitter }) => {
  const axis = value.attrs.axis as number;
  const start = emitter.node('Cast', [offset], [attribute.int('to', ELEMENT.int64)]);
  const end = emitter.node('Add', [start, emitter.dim(extent(value.inputs[1], axis))]);
  const before = sliceAlong(emitter, buffer, axis, emitter.int64([0]), start);
  const after = sliceAlong(emitter, buffer, axis, end, emitter.dim(extent(value, axis)));
  return emitter.node('Concat', [before, rows, after], [attribute.int('axis', axis)]);
};

const writeRowsAt: Rule = (_value, [buffer, rows, places], { emitter }) => {
  const wide = emitter.node('Cast', [places], [attribute.int('to', ELEMENT.int64)]);
  const column = emitter.node('Unsqueeze', [wide, emitter.int64([1, 3])]); // [B, 1, L, 1]
  const each = emitter.node('Expand', [column, emitter.node('Shape', [rows])]);
  return emitter.node('ScatterElements', [buffer, each, rows], [attribute.int('axis', 2)]);
};

const scatterRows: Rule = (value, [indices, rows], { emitter }) => {
  const zero = emitter.constant(Float32Array.of(0), [], 'f32');
  const blank = emitter.node('Expand', [zero, emitter.shape(value.shape)]);
  const wide = emitter.node('Cast', [indices], [attribute.int('to', ELEMENT.int64)]);
  const places = emitter.node('Unsqueeze', [wide, emitter.int64([-1])]); // [..., 1]
  return emitter.node('ScatterND', [blank, places, rows], [attribute.string('reduction', 'add')]);
};

const topK: Rule = (value, [x], { emitter }) => {
  const [, indices] = emitter.nodeWithOutputs('TopK', [x, emitter.int64([value.attrs.k as number])], 2);
  return emitter.node('Cast', [indices], [attribute.int('to', ELEMENT.int32)]);
};

const layerNorm: Rule = (value, inputs, { emitter }) =>
  emitter.node('LayerNormalization', inputs, [
    attribute.int('axis', -1),
    attribute.float('epsilon', value.attrs.epsilon as number),
  ]);

/** Rows and the inverse of their deviation: two results of one node, where both are asked for. */
const standardised = ({ inputs: [x], attrs }: Value, name: string, emitter: Emitter): string[] => {
  const epsilon = attrs.epsilon as number;
  const width = extent(x, -1) as number;
  const ones = emitter.constant(new Float32Array(width).fill(1), [width], 'f32');
  return emitter.shared(`standardise ${name} ${epsilon}`, () =>
    emitter.nodeWithOutputs('LayerNormalization', [name, ones], 3, [
      attribute.int('axis', -1),
      attribute.float('epsilon', epsilon),
    ]),
  );
};

/** ONNX Runtime's WebGPU forgets margins of a kernel of one sample, so they follow: what zeros become is zeros. */
const conv2d: Rule = (value, inputs, { emitter }) => {
  const { stride, padding, dilation } = value.attrs as Readonly<Record<string, number[]>>;
  const isPointwise = [...(value.inputs[1].shape.slice(2) as number[]), ...stride].every((one) => one === 1);
  const padsAfter = isPointwise && padding.some((side) => side > 0);
  const result = emitter.node('Conv', inputs, [
    attribute.ints('strides', stride),
    attribute.ints('pads', padsAfter ? [0, 0, 0, 0] : padding),
    attribute.ints('dilations', dilation),
  ]);
  if (!padsAfter) return result;
  const [top, left, bottom, right] = padding;
  return emitter.node('Pad', [result, emitter.int64([0, 0, top, left, 0, 0, bottom, right])]);
};

const pool =
  (opType: string): Rule =>
  (value, inputs, { emitter }) => {
    const { kernel, stride, padding } = value.attrs as Readonly<Record<string, number[]>>;
    return emitter.node(opType, inputs, [
      attribute.ints('kernel_shape', kernel),
      attribute.ints('strides', stride),
      attribute.ints('pads', padding),
    ]);
  };

/** ONNX Runtime fuses Relu, but not Max, with a convolution. */
const maximum: Rule = (value, inputs, { emitter }) => {
  const zero = value.inputs.findIndex(
    (input, i) => isZero(input) && value.inputs[1 - i].shape.length === value.shape.length,
  );
  return zero < 0 ? emitter.node('Max', inputs) : emitter.node('Relu', [inputs[1 - zero]]);
};

const isZero = ({ op, attrs, shape }: Value): boolean =>
  op === 'constant' && shape.every((dim) => dim === 1) && (attrs.data as Float64Array)[0] === 0;

const rmsNorm: Rule = (value, inputs, { emitter }) =>
  emitter.node('SimplifiedLayerNormalization', inputs, [
    attribute.int('axis', -1),
    attribute.float('epsilon', value.attrs.epsilon as number),
  ]);

const silu: Rule = (_value, inputs, { emitter }) =>
  emitter.node('QuickGelu', inputs, [attribute.float('alpha', 1)], MICROSOFT);

/** The rows of the tables belong to the places in order, so the positions into them begin at 0. */
const rope: Rule = (value, [x, cos, sin], { emitter }) => {
  const [, , heads, width] = value.shape as number[];
  const flat = emitter.node('Reshape', [x, emitter.int64([0, 0, heads * width])]);
  const turned = emitter.node(
    'RotaryEmbedding',
    [flat, emitter.int64([0]), cos, sin],
    [attribute.int('interleaved', 1), attribute.int('num_heads', heads)],
    MICROSOFT,
  );
  return emitter.node('Reshape', [turned, emitter.int64([0, 0, heads, width])]);
};

/** Pi in parts of few digits, whose products with whole and half numbers are exact. */
const PI = [3.140625, 0.0009675025939941406, 1.5099580252808664e-7];

/**
 * A sine (`half` 0) or cosine (`half` 1/2). On WebGPU, whose drivers promise few digits of them, it is written out:
 * x = (n + half) pi + r with |r| <= pi / 2, then the series of sin(r) up to r^13, with the sign that n gives.
 */
const wave =
  (opType: string, half: number): Rule =>
  (_value, [x], { emitter, target }) => {
    if (target !== 'webgpu') return emitter.node(opType, [x]);
    const number = (value: number) => emitter.constant(Float32Array.of(value), [], 'f32');
    const add = (a: string, b: number) => emitter.node('Add', [a, number(b)]);
    const mul = (a: string, b: number) => emitter.node('Mul', [a, number(b)]);
    const sub = (a: string, b: string) => emitter.node('Sub', [a, b]);

    const n = emitter.node('Floor', [add(mul(x, 1 / Math.PI), 0.5 - half)]);
    const turns = add(n, half);
    const r = PI.reduce((rest, part) => sub(rest, mul(turns, part)), x);
    const square = emitter.node('Mul', [r, r]);
    const series = [13, 11, 9, 7, 5, 3].reduce((inner, power) => {
      const term = emitter.node('Mul', [square, inner]);
      return sub(number(1), mul(term, 1 / (power * (power - 1))));
    }, number(1));
    const isOdd = sub(n, mul(emitter.node('Floor', [mul(n, 0.5)]), 2)); // 0 or 1
    const sign = half === 0 ? add(mul(isOdd, -2), 1) : add(mul(isOdd, 2), -1);
    return emitter.node('Mul', [emitter.node('Mul', [r, series]), sign]);
  };

/** How each operation is written in ONNX. */
export const rules: Readonly<Record<string, Rule>> = {
  neg: direct('Neg'),
  exp: direct('Exp'),
  log: direct('Log'),
  sqrt: direct('Sqrt'),
  stopGradient: direct('Identity'),
  straightThrough: (_value, [hard], { emitter }) => emitter.node('Identity', [hard]),
  tanh: direct('Tanh'),
  erf: direct('Erf'),
  sin: wave('Sin', 0),
  cos: wave('Cos', 0.5),
  sigmoid: direct('Sigmoid'),
  add: direct('Add'),
  sub: direct('Sub'),
  mul: direct('Mul'),
  div: direct('Div'),
  maximum,
  less: direct('Less'),
  equal: direct('Equal'),
  select: direct('Where'),
  matmul,
  conv2d,
  maxPool2d: pool('MaxPool'),
  averagePool2d: pool('AveragePool'),
  reshape,
  transpose: (value, [x], { emitter }) =>
    emitter.node('Transpose', [x], [attribute.ints('perm', value.attrs.permutation as number[])]),
  broadcastTo,
  slice,
  concat: (value, inputs, { emitter }) =>
    emitter.node('Concat', inputs, [attribute.int('axis', value.attrs.axis as number)]),
  gather: (_value, inputs, { emitter }) => emitter.node('Gather', inputs, [attribute.int('axis', 0)]),
  scatterRows,
  takeAlong: (_value, inputs, { emitter }) =>
    emitter.node('GatherElements', inputs, [attribute.int('axis', -1)]),
  writeRows,
  writeRowsAt,
  topK,
  sum: reduce('ReduceSum'),
  max: reduce('ReduceMax'),
  softmax: (_value, inputs, { emitter }) => emitter.node('Softmax', inputs, [attribute.int('axis', -1)]),
  logSoftmax: (_value, inputs, { emitter }) =>
    emitter.node('LogSoftmax', inputs, [attribute.int('axis', -1)]),
  layerNorm,
  standardise: (value, [x], { emitter }) => standardised(value, x, emitter)[0],
  inverseDeviation: (value, [x], { emitter }) => standardised(value, x, emitter)[2],
  rmsNorm,
  gelu: (_value, inputs, { emitter }) =>
    emitter.node('Gelu', inputs, [attribute.string('approximate', 'tanh')]),
  geluExact: (_value, inputs, { emitter }) =>
    emitter.node('Gelu', inputs, [attribute.string('approximate', 'none')]),
  silu,
  rope,
};

const standardComposites = [
  'softmax',
  'logSoftmax',
  'layerNorm',
  'standardise',
  'inverseDeviation',
  'gelu',
  'geluExact',
  'writeRowsAt',
];

/** Composite operations that each dialect has an operator for. */
export const fusedOperations: Readonly<Record<Dialect, ReadonlySet<string>>> = {
  standard: new Set(standardComposites),
  onnxruntime: new Set([...standardComposites, 'rmsNorm', 'silu', 'rope']),
};
