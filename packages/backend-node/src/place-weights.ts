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

/** Where the weights of one session are. */
export interface PlacedWeights {
  readonly place: (name: string) => WeightPlacement;
  /** Matrices rounded to few bits. */
  readonly quantised: ReadonlyMap<string, PlacedMatrix>;
  /** Folder of the file that ONNX Runtime maps into memory. */
  readonly folder?: string;
  /** Weights that had to be read: rounded and widened ones, and those from other places. */
  readonly memory?: { readonly name: string; readonly data: Uint8Array<ArrayBuffer> };
}

const MEMORY = 'detailflow-memory';

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
 * of one folder. A session takes its weights either from files or from memory, so otherwise all are read into one block; with
 * a dtype of few bits, matrices that are not rounded yet are rounded on the way, one after the other.
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
  const block = new Block();
  for (const weight of needed) {
    const { name, shape } = weight;
    const [format, rounded] = [formats.get(name), roundedOf(weight)];
    const [out, columns] = shape;
    if (rounded) {
      const { bits, block: size } = rounded;
      const checked = await rounded.scales.read();
      const scales = folder === undefined ? block.add(checked) : inFile(rounded.scales);
      const asStored = async () => {
        const bytes = await rounded.values.read();
        return block.add(size === 'row' ? raised(bytes) : bytes);
      };
      const values = folder === undefined ? await asStored() : inFile(rounded.values);
      const held = { ...(size === 'row' && { unsigned, fine: fine.has(name) }), values, scales };
      quantised.set(name, { bits, block: size, out, in: columns, ...held });
    } else if (folder !== undefined) {
      placements.set(name, inFile(weight));
    } else if (format) {
      const matrix = quantise(await readFloat32(weight), { ...format, name, out, in: columns });
      const byRows = matrix.block === 'row';
      const values = block.add(byRows ? raised(matrix.values) : matrix.values);
      const held = {
        ...(byRows && { unsigned, fine: fine.has(name) }),
        values,
        scales: block.add(matrix.scales),
      };
      quantised.set(name, { ...matrix, ...held });
    } else {
      placements.set(name, block.add(await readFloat32(weight)));
    }
  }
  const place = (name: string) => placements.get(name) as WeightPlacement;
  return { place, quantised, folder, memory: block.finish() };
}

function inFile({ location }: Weight): FilePlacement {
  const { path: file, offset, length } = location as NonNullable<Weight['location']>;
  return { file: path.basename(file), offset, length };
}

/** Signed levels as bytes, 128 more. */
const withMiddle = ({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint8Array =>
  new Uint8Array(buffer, byteOffset, byteLength).map((level) => level ^ 128);

/** Collects arrays that will be one block of memory. */
class Block {
  readonly #parts: Uint8Array[] = [];
  #size = 0;

  add({ buffer, byteOffset, byteLength }: ArrayBufferView): FilePlacement {
    const placement = { file: MEMORY, offset: this.#size, length: byteLength };
    this.#parts.push(new Uint8Array(buffer, byteOffset, byteLength));
    this.#size += Math.ceil(byteLength / ALIGNMENT) * ALIGNMENT;
    return placement;
  }

  finish(): PlacedWeights['memory'] {
    if (this.#parts.length === 0) return undefined;
    const data = new Uint8Array(this.#size);
    let at = 0;
    for (let part = this.#parts.shift(); part; part = this.#parts.shift()) {
      data.set(part, at);
      at += Math.ceil(part.byteLength / ALIGNMENT) * ALIGNMENT;
    }
    return { name: MEMORY, data };
  }
}

const ALIGNMENT = 64;

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
