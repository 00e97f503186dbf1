import type { Graph, Value } from '@detailflow/core';
import { countReaders } from './count-readers';
import type { Emitter } from './emitter';
import { attribute } from './proto';

/** Every place of [B, C, H, W] several times in both directions. */
interface Enlargement {
  readonly source: Value;
  readonly rows: number;
  readonly columns: number;
}

/** Writes a value from the names of others. */
type Form = (nameOf: (value: Value) => string, emitter: Emitter) => string;

/** What ONNX has one operator for. */
export interface Enlargements {
  readonly forms: ReadonlyMap<Value, Form>;
  /** Steps on the way that nothing else reads. */
  readonly steps: ReadonlySet<Value>;
}

/**
 * Reshapes to [B, C, rH, cW] of [B, C, H, 1, W, 1] broadcast to [B, C, H, r, W, c], in one: ONNX Runtime copies a broadcast of
 * six axes number by number, 12 times as slowly.
 * @param options.convolutions whether those that see them go by their sources: see {@link convolutionOfTwice}
 */
export function enlargementsOf(graph: Graph, options: { readonly convolutions: boolean }): Enlargements {
  const readers = countReaders(graph);
  const enlargements = new Map<Value, Enlargement>();
  const forms = new Map<Value, Form>();
  for (const node of graph.nodes) {
    const enlargement = enlargementTo(node);
    if (enlargement) {
      enlargements.set(node, enlargement);
      forms.set(node, (nameOf, emitter) => enlarged(nameOf(enlargement.source), enlargement, emitter));
    }
    const seen = node.op === 'conv2d' && options.convolutions && enlargements.get(node.inputs[0]);
    if (seen && seesTwice(node, seen)) {
      const [twice, kernel] = node.inputs;
      readers.set(twice, (readers.get(twice) as number) - 1);
      forms.set(node, (nameOf, emitter) =>
        convolutionOfTwice(node, nameOf(seen.source), nameOf(kernel), emitter),
      );
    }
  }
  const steps = new Set<Value>();
  for (const node of enlargements.keys()) {
    if (readers.get(node) === 0) steps.add(node);
    const [repeated] = node.inputs;
    for (const step of [repeated, repeated.inputs[0]]) {
      if (readers.get(step) !== 1) break;
      steps.add(step);
    }
  }
  return { forms, steps };
}

function enlargementTo({ op, inputs: [repeated], shape }: Value): Enlargement | undefined {
  if (op !== 'reshape' || repeated.op !== 'broadcastTo') return undefined;
  const [cells] = repeated.inputs;
  const [source] = cells.inputs;
  if (cells.op !== 'reshape' || source.shape.length !== 4 || repeated.shape.length !== 6) return undefined;
  const [batch, channels, height, width] = source.shape;
  const [rows, columns] = [repeated.shape[3], repeated.shape[5]];
  const isNumber = (dim: unknown) => typeof dim === 'number' && dim > 0;
  if (![height, width, rows, columns].every(isNumber)) return undefined;
  const [h, w, r, c] = [height, width, rows, columns] as number[];
  const isCells = `${cells.shape}` === `${[batch, channels, h, 1, w, 1]}`;
  const isRepeated = `${repeated.shape}` === `${[batch, channels, h, r, w, c]}`;
  const isJoined = `${shape}` === `${[batch, channels, h * r, w * c]}`;
  return isCells && isRepeated && isJoined ? { source, rows: r, columns: c } : undefined;
}

/** Every place again and again. */
const enlarged = (x: string, { rows, columns }: Enlargement, emitter: Emitter): string =>
  emitter.node(
    'Resize',
    [x, '', emitter.constant(Float32Array.of(1, 1, rows, columns), [4], 'f32')],
    [
      attribute.string('mode', 'nearest'),
      attribute.string('coordinate_transformation_mode', 'asymmetric'),
      attribute.string('nearest_mode', 'floor'),
    ],
  );

/** Windows of 3 x 3 on what was made twice as high and wide. */
function seesTwice({ inputs, attrs }: Value, { rows, columns }: Enlargement): boolean {
  const { stride, padding, dilation } = attrs as Readonly<Record<string, readonly number[]>>;
  const kernel = inputs[1].shape.slice(2);
  return (
    `${[rows, columns, kernel]}` === '2,2,3,3' &&
    [...stride, ...dilation, ...padding].every((one) => one === 1)
  );
}

/** Which of two neighbours each row of a window falls on, for places of even and odd number. */
const NEIGHBOURS = [
  [1, 0, 0, 0, 1, 1],
  [1, 1, 0, 0, 0, 1],
];

/**
 * Such a convolution as four of the source with kernels of 2 x 2, one for even and odd rows and columns each: four ninths of the products. Kernels are
 * summed up when the model is loaded.
 * @param x the source [B, C, H, W]
 */
function convolutionOfTwice(value: Value, x: string, kernel: string, emitter: Emitter): string {
  const [, channels, height, width] = value.shape as number[];
  const sums = (axis: 'rows' | 'columns', odd: number) =>
    emitter.shared(`neighbours ${axis} ${odd}`, () => {
      const [of, dims] =
        axis === 'rows'
          ? [NEIGHBOURS[odd], [2, 3]]
          : [[0, 3, 1, 4, 2, 5].map((i) => NEIGHBOURS[odd][i]), [3, 2]];
      return [emitter.constant(Float32Array.from(of), dims, 'f32')];
    })[0];
  const lines = [0, 1].map((i) => {
    const places = [0, 1].map((j) => {
      const rows = emitter.node('MatMul', [sums('rows', i), kernel]); // [O, C, 2, 3]
      const summed = emitter.node('MatMul', [rows, sums('columns', j)]); // [O, C, 2, 2]
      const pads = attribute.ints('pads', [1 - i, 1 - j, i, j]);
      return emitter.node('Unsqueeze', [emitter.node('Conv', [x, summed], [pads]), emitter.int64([-1])]);
    });
    const line = emitter.node('Concat', places, [attribute.int('axis', 4)]); // [B, O, H, W, 2]
    return emitter.node('Reshape', [line, emitter.int64([0, channels, height / 2, width])]);
  });
  const twice = emitter.node('Concat', lines, [attribute.int('axis', 3)]); // [B, O, H, 2 x 2W]
  return emitter.node('Reshape', [twice, emitter.int64([0, channels, height, width])]);
}
