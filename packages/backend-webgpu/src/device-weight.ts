import { DetailFlowError, type Graph, readFloat32, type Weight, type WeightDType } from '@detailflow/core';
import { agreedDType, float16Bits } from '@detailflow/core/rounded-weight';

/** How weights may be held: as halves where they are stored so, all as float32, or also matrices rounded to halves. */
export type HeldDType = Extract<WeightDType, 'fp32' | 'fp16'> | undefined;

const LARGEST = 65504;

/** @throws DetailFlowError `unsupported` */
export function requireHeld(dtype: WeightDType | undefined): asserts dtype is HeldDType {
  if (dtype === undefined || dtype === 'fp32' || dtype === 'fp16') return;
  throw new DetailFlowError(
    'unsupported',
    `the WebGPU backend holds weights as fp32 or fp16, not as ${dtype}; give one of these, or leave the dtype out`,
  );
}

/**
 * Reads weights of a graph as they are to lie on the device.
 * @throws DetailFlowError `dtype` where halves are asked for and matrices are stored in few bits
 */
export function weightReader(graph: Graph, weights: ReadonlyMap<string, Weight>, dtype: HeldDType) {
  if (dtype === 'fp16') agreedDType(new Map([...weights].filter(([name]) => graph.weights.has(name))), dtype);
  const large = dtype === 'fp16' ? largeWeights(graph) : new Set();
  const find = (key: string) => weights.get(key) as Weight;
  const isHalf = (key: string): boolean => large.has(key) || (find(key).dtype === 'f16' && dtype !== 'fp32');
  return {
    /** Whether the weight that a graph calls so is to be halves. */
    isHalf,
    /** float32, or the bits of halves. @throws DetailFlowError `weights` where a value has no half */
    async read(key: string): Promise<Float32Array | Uint16Array> {
      const weight = find(key);
      const { name, shape } = weight;
      if (!isHalf(key)) return readFloat32(weight);
      if (weight.dtype !== 'f16') return roundedToHalves(await readFloat32(weight), name);
      const bytes = await weight.read();
      const widened = () => readFloat32({ name, shape, dtype: 'f16', read: async () => bytes });
      if (bytes.byteLength !== 2 * shape.reduce((a, b) => a * b, 1)) return widened(); // says what is wrong
      const { buffer, byteOffset } = bytes.byteOffset % 2 === 0 ? bytes : bytes.slice();
      const halves = new Uint16Array(buffer, byteOffset, bytes.byteLength / 2);
      const bad = halves.findIndex((bits) => (bits & 0x7c00) === 0x7c00);
      if (bad < 0) return halves;
      // Shaders read only finite halves.
      const values = await widened();
      if (dtype === 'fp16') throw noHalf(name, values[bad], bad);
      return values;
    },
  };
}

/** Matrices of products x W^T, and tables of which rows are gathered. */
function largeWeights(graph: Graph): ReadonlySet<unknown> {
  const read = graph.nodes.flatMap(({ op, inputs: [first, second], attrs }) => {
    if (op === 'gather') return [first];
    return op === 'matmul' && attrs.transposeB ? [second] : [];
  });
  return new Set(
    read.filter(({ op, shape }) => op === 'weight' && shape.length === 2).map(({ attrs }) => attrs.name),
  );
}

function roundedToHalves(values: Float32Array, name: string): Uint16Array {
  const bad = values.findIndex((value) => !(Math.abs(value) <= LARGEST));
  if (bad >= 0) throw noHalf(name, values[bad], bad);
  return Uint16Array.from(values, float16Bits);
}

const noHalf = (name: string, value: number, place: number) =>
  new DetailFlowError(
    'weights',
    `the value ${value} at ${place} does not fit fp16, which ends at ${LARGEST}; take dtype fp32`,
    { entry: name },
  );
