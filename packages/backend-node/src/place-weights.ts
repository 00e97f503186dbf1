import path from 'node:path';
import { type Graph, readFloat32, type Weight, type Weights } from '@detailflow/core';
import type { WeightPlacement } from '@detailflow/onnx';

/** Where the weights of one session are. */
export interface PlacedWeights {
  readonly place: (name: string) => WeightPlacement;
  /** Folder of the file that ONNX Runtime maps into memory. */
  readonly folder?: string;
  /** Weights that had to be read: widened ones, and those from other places. */
  readonly memory?: { readonly name: string; readonly data: Uint8Array<ArrayBuffer> };
}

const MEMORY = 'detailflow-memory';

/**
 * Leaves float32 weights in the file they lie in, for ONNX Runtime to map, and reads the others into one block.
 * A session can map files of one folder only, so the folder that holds most bytes is chosen.
 */
export async function placeWeights(graph: Graph, weights: Weights): Promise<PlacedWeights> {
  const needed = [...graph.weights.keys()].map((name) => weights.get(name) as Weight);
  const folder = largestFolder(needed);
  const placements = new Map<string, WeightPlacement>();
  const toRead: Weight[] = [];
  let size = 0;
  for (const weight of needed) {
    const length = 4 * weight.shape.reduce((a, b) => a * b, 1);
    if (folder !== undefined && isMappable(weight) && path.dirname(weight.location.path) === folder) {
      placements.set(weight.name, {
        file: path.basename(weight.location.path),
        offset: weight.location.offset,
        length,
      });
    } else {
      placements.set(weight.name, { file: MEMORY, offset: size, length });
      toRead.push(weight);
      size += length;
    }
  }
  const place = (name: string) => placements.get(name) as WeightPlacement;
  if (toRead.length === 0) return { place, folder };
  const data = new Uint8Array(size);
  let at = 0;
  for (const weight of toRead) {
    const values = await readFloat32(weight);
    data.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), at);
    at += values.byteLength;
  }
  return { place, folder, memory: { name: MEMORY, data } };
}

type Mappable = Weight & { readonly location: NonNullable<Weight['location']> };

function isMappable(weight: Weight): weight is Mappable {
  return weight.dtype === 'f32' && weight.location !== undefined && weight.location.offset % 4 === 0;
}

function largestFolder(weights: readonly Weight[]): string | undefined {
  const bytes = new Map<string, number>();
  for (const weight of weights.filter(isMappable)) {
    const folder = path.dirname(weight.location.path);
    bytes.set(folder, (bytes.get(folder) ?? 0) + weight.location.length);
  }
  const [best] = [...bytes].sort((a, b) => b[1] - a[1]);
  return best?.[0];
}
