import type { Shape } from '@detailflow/core';
import type { Emitter } from './emitter';
import { attribute, MICROSOFT } from './proto';
import type { QuantisedMatrix } from './quantise';

/** A matrix in few bits, as initialisers of the model. */
export interface QuantisedInitializers extends Omit<QuantisedMatrix, 'values' | 'scales'> {
  /** Whether what goes into its product keeps 15 bits of the length of a row, not 8 of its largest entry: of matrices with a scale a row. */
  readonly fine?: boolean;
  /** Whether its levels are 128 more than they stand for: of matrices with a scale a row. */
  readonly unsigned?: boolean;
  readonly values: string;
  readonly scales: string;
}

/** `accuracy_level` 4 rounds what goes in, too, to 8 bits, block by block of each row: many times faster. */
export const blockProduct = (x: string, matrix: QuantisedInitializers, emitter: Emitter): string =>
  emitter.node(
    'MatMulNBits',
    [x, matrix.values, matrix.scales],
    [
      attribute.int('K', matrix.in),
      attribute.int('N', matrix.out),
      attribute.int('bits', matrix.bits),
      attribute.int('block_size', matrix.block as number),
      attribute.int('accuracy_level', 4),
    ],
    MICROSOFT,
  );

/** Levels lie around this one. */
const MIDDLE = 128;
/** One level of 127 for the largest. */
const STEP = 1 / 127;
/** What a level leaves over is half of one at most. */
const PARTS = 254;

/**
 * Each row of what goes in is rounded to levels of its size, which it gets back in the end: to 8 bits of its largest entry, or, where that is too
 * little, to 8 bits of its length and what they leave over to 8 more. Products of integers are exact, so a row comes out the same
 * whatever rows are beside it. Something that is no number makes the length none; the largest entry it may not, but what is added up
 * from layer to layer keeps it, and the last product goes by lengths.
 * @param shape of the result
 */
export const rowProduct = (
  x: string,
  matrix: QuantisedInitializers,
  shape: Shape,
  emitter: Emitter,
): string => (matrix.fine ? fineProduct(x, matrix, shape, emitter) : plainProduct(x, matrix, emitter));

/** A row of zeros stays one, since it is multiplied by zero. */
function plainProduct(x: string, matrix: QuantisedInitializers, emitter: Emitter): string {
  const step = number(emitter, STEP);
  const [largest, levels] = emitter.shared(`levels of ${x}`, () => {
    const inputs = [emitter.node('Abs', [x]), emitter.int64([-1])];
    const largest = emitter.node('ReduceMax', inputs, [attribute.int('keepdims', 1)]);
    return [largest, rounded(emitter, emitter.node('Div', [x, largest]), step)];
  });
  return emitter.node('Mul', [integerProduct(emitter, levels, step, matrix), largest]);
}

/** What keeps a row of zeros from being divided by zero; far below the mean square of any other. */
const LEAST_SQUARE = 1e-30;

/** Levels and what they leave over are rows of one product, one batch after the other. */
function fineProduct(x: string, matrix: QuantisedInitializers, shape: Shape, emitter: Emitter): string {
  const root = Math.sqrt(matrix.in);
  const [inverse, both] = emitter.shared(`fine levels of ${x}`, () => {
    const [step, small] = [number(emitter, STEP), number(emitter, STEP / PARTS)];
    const unit = emitter.shared(`unit ${matrix.in}`, () => [
      emitter.constant(new Float32Array(matrix.in).fill(1 / root), [matrix.in], 'f32'),
    ]);
    // Rows of length 1, and the inverse of what the root of their mean square was.
    const [share, inverse] = emitter.nodeWithOutputs('SimplifiedLayerNormalization', [x, ...unit], 2, [
      attribute.int('axis', -1),
      attribute.float('epsilon', LEAST_SQUARE),
    ]);
    const levels = rounded(emitter, share, step);
    const kept = emitter.node('DequantizeLinear', [levels, step, emitter.uint8(MIDDLE)]);
    const rest = rounded(emitter, emitter.node('Sub', [share, kept]), small);
    return [inverse, emitter.node('Concat', [levels, rest], [attribute.int('axis', 0)])];
  });
  const product = integerProduct(emitter, both, number(emitter, root * STEP), matrix);
  // The levels' rows and a part of the rest's, in one pass over both: a product of one row of two.
  const parts = emitter.shared('parts', () => [
    emitter.constant(Float32Array.of(1, 1 / PARTS), [1, 2], 'f32'),
  ]);
  const halves = emitter.node('Reshape', [product, emitter.int64([2, -1])]);
  const sum = emitter.node('MatMul', [...parts, halves]);
  return emitter.node('Div', [emitter.node('Reshape', [sum, emitter.shape(shape)]), inverse]);
}

const rounded = (emitter: Emitter, x: string, step: string): string =>
  emitter.node('QuantizeLinear', [x, step, emitter.uint8(MIDDLE)]);

/** Levels times a matrix, in steps of `step`. */
function integerProduct(
  emitter: Emitter,
  levels: string,
  step: string,
  { values, scales, unsigned }: QuantisedInitializers,
): string {
  const middle = emitter.uint8(MIDDLE);
  const inputs = [levels, values, step, scales, middle, ...(unsigned ? [middle] : [])];
  return emitter.node('MatMulIntegerToFloat', inputs, [], MICROSOFT);
}

/** A number without axes; equal ones are shared. */
const number = (emitter: Emitter, value: number): string =>
  emitter.shared(`${value}`, () => [emitter.constant(Float32Array.of(value), [], 'f32')])[0];
