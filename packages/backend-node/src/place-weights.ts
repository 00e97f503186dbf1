import { realpath } from 'node:fs/promises';
import path from 'node:path';
import {
  DetailFlowError,
  type Graph,
  type RoundedMatrix,
  readFloat32,
  storageBytes,
  type Weight,
  type WeightDType,
  type Weights,
} from '@detailflow/core';
import { agreedDType } from '@detailflow/core/rounded-weight';
import {
  type FilePlacement,
  fineInputs,
  linearProducts,
  type MatrixFormat,
  matrixFormats,
  type PlacedMatrix,
  quantise,
  type WeightPlacement,
} from '@detailflow/onnx';
import { type MemoryBlock, openBlock } from './weights-block';

/** Where the weights of one session are. */
export interface PlacedWeights {
  readonly place: (name: string) => WeightPlacement;
  /** Matrices rounded to few bits. */
  readonly quantised: ReadonlyMap<string, PlacedMatrix>;
  /** Folder of the file that ONNX Runtime maps into memory. */
  readonly folder?: string;
  /** Weights that had to be read, if they are not in a file: rounded and widened ones, and those from other places. */
  readonly memory?: MemoryBlock;
  /** To be called when the session is loaded: removes a file that was written for it. */
  readonly release: () => Promise<void>;
}

/** How weights are wanted. */
export interface PlaceOptions {
  readonly dtype?: WeightDType;
  /** Whether matrices that are rounded here may have a scale a row. */
  readonly rows: boolean;
  /** Whether this processor takes levels of a row as they are, or 128 more. Asked where there are such. */
  readonly levels: () => Promise<'signed' | 'unsigned'>;
}

/**
 * Leaves the weights in the files they lie in, for ONNX Runtime to map, where all are float32, or matrices in few bits, in files
 * of one folder. A session takes its weights either from files or from memory, so otherwise all are read into one block, a large one in a
 * temporary file; with a dtype of few bits, matrices that are not rounded yet are rounded on the way, one after the other.
 */
export async function placeWeights(
  graph: Graph,
  weights: Weights,
  { dtype: wanted, rows, levels }: PlaceOptions,
): Promise<PlacedWeights> {
  const needed = await withoutLinks([...graph.weights.keys()].map((name) => weights.get(name) as Weight));
  const dtype = agreedDType(new Map(needed.map((weight) => [weight.name, weight])), wanted) ?? 'fp32';
  if (dtype === 'fp16') {
    throw new DetailFlowError('unsupported', 'fp16 is for @detailflow/backend-webgpu; give fp32, q8 or q4');
  }
  const formats = dtype === 'fp32' ? new Map<string, MatrixFormat>() : matrixFormats(graph, dtype, { rows });
  const products = linearProducts(graph);
  const roundedOf = ({ name, rounded }: Weight) => (products.has(name) ? rounded : undefined);
  const isByRows = ({ name }: Weight) => formats.get(name)?.block === 'row';
  const hasRows = needed.some((weight) => isByRows(weight) || roundedOf(weight)?.block === 'row');
  const unsigned = hasRows && (await levels()) === 'unsigned';
  const fine = hasRows ? fineInputs(graph) : new Set<string>();
  const folder = formats.size === 0 && !unsigned ? commonFolder(needed, roundedOf) : undefined;
  const raised = (bytes: ArrayBufferView) => (unsigned ? withMiddle(bytes) : bytes);
  const placements = new Map<string, WeightPlacement>();
  const quantised = new Map<string, PlacedMatrix>();
  const most = needed.reduce((sum, weight) => sum + float32Bytes(weight), 0);
  await using block = folder === undefined ? await openBlock(most) : undefined;
  /** Where the bytes of a weight are, which are read only if they have to be. */
  const placed = async (weight: Weight, read: () => Promise<ArrayBufferView>): Promise<FilePlacement> =>
    block ? block.add(await read()) : inFile(weight);
  for (const weight of needed) {
    const { name, shape } = weight;
    const [format, rounded] = [formats.get(name), roundedOf(weight)];
    const [out, columns] = shape;
    const byRows = { unsigned, fine: fine.has(name) };
    if (rounded) {
      const { bits, block: size, values: levels, scales: steps } = rounded;
      const checked = await steps.read();
      const scales = await placed(steps, async () => checked);
      const values = await placed(levels, async () => {
        const bytes = await levels.read();
        return size === 'row' ? raised(bytes) : bytes;
      });
      const held = { ...(size === 'row' && byRows), values, scales };
      quantised.set(name, { bits, block: size, out, in: columns, ...held });
    } else if (format && block) {
      const matrix = quantise(await readFloat32(weight), { ...format, name, out, in: columns });
      const isRow = matrix.block === 'row';
      const values = await block.add(isRow ? raised(matrix.values) : matrix.values);
      const held = { ...(isRow && byRows), values, scales: await block.add(matrix.scales) };
      quantised.set(name, { ...matrix, ...held });
    } else {
      placements.set(name, await placed(weight, () => readFloat32(weight)));
    }
  }
  const place = (name: string) => placements.get(name) as WeightPlacement;
  return { place, quantised, ...(block ? await block.finish() : { folder, release: async () => {} }) };
}

const float32Bytes = ({ shape }: Weight): number => 4 * shape.reduce((a, b) => a * b, 1);

function inFile({ location }: Weight): FilePlacement {
  const { path: file, offset, length } = location as NonNullable<Weight['location']>;
  return { file: path.basename(file), offset, length };
}

/** Signed levels as bytes, 128 more. */
const withMiddle = ({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint8Array =>
  new Uint8Array(buffer, byteOffset, byteLength).map((level) => level ^ 128);

/**
 * The weights, located in the files themselves where they lie behind symbolic links, as in the cache of the Hugging Face
 * Hub: ONNX Runtime maps no file that a link leads to outside the folder it is given.
 */
async function withoutLinks(weights: readonly Weight[]): Promise<Weight[]> {
  const real = new Map<string, string>();
  for (const { location } of weights.flatMap(partsOf)) {
    if (location === undefined || real.has(location.path)) continue;
    // A file that is gone by now fails where it is mapped, by its own name.
    real.set(location.path, await realpath(location.path).catch(() => location.path));
  }
  const relocated = (weight: Weight): Weight => {
    const { name, dtype, shape, location, rounded } = weight;
    return {
      ...{ name, dtype, shape, read: () => weight.read() },
      ...(location && { location: { ...location, path: real.get(location.path) as string } }),
      ...(rounded && {
        rounded: { ...rounded, values: relocated(rounded.values), scales: relocated(rounded.scales) },
      }),
    };
  };
  return weights.map(relocated);
}

const partsOf = (weight: Weight): readonly Weight[] =>
  weight.rounded ? [weight.rounded.values, weight.rounded.scales] : [weight];

/** The folder in which all weights can be mapped. */
function commonFolder(
  weights: readonly Weight[],
  roundedOf: (weight: Weight) => RoundedMatrix | undefined,
): string | undefined {
  const folders = new Set(
    weights.flatMap((weight) => {
      const rounded = roundedOf(weight);
      if (!rounded) return [mappableFolder(weight, 'f32')];
      const { values, scales, block } = rounded;
      return [mappableFolder(values, block === 'row' ? 'i8' : 'u8'), mappableFolder(scales, 'f32')];
    }),
  );
  const [folder] = folders;
  return folders.size === 1 ? folder : undefined;
}

function mappableFolder({ dtype, location }: Weight, must: 'f32' | 'u8' | 'i8'): string | undefined {
  const fits = dtype === must && location !== undefined && location.offset % storageBytes[dtype] === 0;
  return fits ? path.dirname(location.path) : undefined;
}
