import { realpath } from 'node:fs/promises';
import path from 'node:path';
import { type Graph, readFloat32, type Weight, type WeightDType, type Weights } from '@detailflow/core';
import {
  type FilePlacement,
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

/**
 * Leaves the weights in the files they lie in, for ONNX Runtime to map, where all are float32 in files of one folder.
 * A session takes its weights either from files or from memory, so otherwise all are read into one block; with a
 * dtype of few bits, the matrices are rounded on the way, one after the other.
 */
export async function placeWeights(
  graph: Graph,
  weights: Weights,
  dtype: WeightDType,
): Promise<PlacedWeights> {
  const needed = await withoutLinks([...graph.weights.keys()].map((name) => weights.get(name) as Weight));
  const formats = dtype === 'fp32' ? new Map<string, MatrixFormat>() : matrixFormats(graph, dtype);
  const folder = formats.size === 0 ? commonFolder(needed) : undefined;
  const placements = new Map<string, WeightPlacement>();
  const quantised = new Map<string, PlacedMatrix>();
  const block = new Block();
  for (const weight of needed) {
    const { name, shape, location } = weight;
    const format = formats.get(name);
    if (folder !== undefined && location) {
      placements.set(name, {
        file: path.basename(location.path),
        offset: location.offset,
        length: location.length,
      });
    } else if (format) {
      const [out, columns] = shape;
      const matrix = quantise(await readFloat32(weight), { ...format, out, in: columns });
      const [values, scales] = [block.add(matrix.values), block.add(matrix.scales)];
      quantised.set(name, { ...matrix, values, scales });
    } else {
      placements.set(name, block.add(await readFloat32(weight)));
    }
  }
  const place = (name: string) => placements.get(name) as WeightPlacement;
  return { place, quantised, folder, memory: block.finish() };
}

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
  for (const { location } of weights) {
    if (location === undefined || real.has(location.path)) continue;
    // A file that is gone by now fails where it is mapped, by its own name.
    real.set(location.path, await realpath(location.path).catch(() => location.path));
  }
  return weights.map((weight) => {
    const { name, dtype, shape, location } = weight;
    if (location === undefined) return weight;
    const path = real.get(location.path) as string;
    return { name, dtype, shape, location: { ...location, path }, read: () => weight.read() };
  });
}

/** The folder in which all weights can be mapped. */
function commonFolder(weights: readonly Weight[]): string | undefined {
  const folders = new Set(weights.map(mappableFolder));
  const [folder] = folders;
  return folders.size === 1 ? folder : undefined;
}

function mappableFolder({ dtype, location }: Weight): string | undefined {
  const fits = dtype === 'f32' && location !== undefined && location.offset % 4 === 0;
  return fits ? path.dirname(location.path) : undefined;
}
