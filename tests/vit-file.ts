import { writeFile } from 'node:fs/promises';
import { type VitConfig, vitParameters } from '@detailflow/blocks';
import { encodeSafetensors } from '@detailflow/core/safetensors-writer';
import { numbers } from './numbers-by-formula';

/** A vision transformer of two layers of 64 for images of 8 pixels, as DINO's are made. */
export const smallVit: VitConfig = {
  ...{ imageSize: 8, patchSize: 4, width: 64, heads: 1, layers: 2, hiddenDim: 32, registers: 0 },
  ...{ feedForward: 'gelu', hasClass: true, positions: 'class-and-patches', isScaled: false },
};

/** An entry of {@link vitFile}. */
export interface VitEntry {
  readonly name: string;
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

/** Its weights, by formula of their names. */
export const vitEntries = (prefix: string, config = smallVit): VitEntry[] =>
  vitParameters('', config).map(({ name, shape }) => {
    const count = shape.reduce((a, b) => a * b, 1);
    const isGain = /norm\d?\.weight$/.test(name);
    const factor = shape.length === 1 ? 0.2 : Math.sqrt(3 / (count / shape[0]));
    const data = numbers(name, count).map((x) => (isGain ? 1 + 0.2 * x : factor * x));
    return { name: prefix + name, shape, data };
  });

/** Writes a .safetensors file. @returns its path */
export async function vitFile(place: string, entries: readonly VitEntry[] = vitEntries('')): Promise<string> {
  const plan = encodeSafetensors(
    entries.map((entry) => ({ ...entry, dtype: 'f32' as const })),
    {},
  );
  const parts = [plan.header, ...plan.tensors.map(({ entry }) => new Uint8Array(entry.data.buffer))];
  await writeFile(place, Buffer.concat(parts));
  return place;
}
