import { createHash } from 'node:crypto';
import { mkdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { openFile, writeFileAtomically } from '@detailflow/checkpoint/node';
import { checkOptions, DetailFlowError, openSafetensors, readFloat32, type Weight } from '@detailflow/core';
import { encodeSafetensors, type SafetensorsEntry } from '@detailflow/core/safetensors-writer';
import type { Column, Shard, ShardIdentity, ShardStore } from '../shard-store';

/** Of what is computed: another one when the same images and networks give other values. */
const VERSION = 2;

/**
 * Keeps shards as .safetensors files: one folder a job inside `folder`, one file a shard. Any file may be removed to be
 * made anew.
 * @param options.origin what the values depend on besides the job: the files of model and network, see `fileStamp`
 * @throws DetailFlowError when shards are read: `format` when one is broken, `io`
 */
export function folderStore(folder: string, options: { readonly origin: string }): ShardStore {
  checkOptions('folderStore', options, { origin: true });
  const fileOf = async ({ name, total }: ShardIdentity, first: number, count: number) => {
    const place = await shortHash(`${VERSION} ${name} ${total} ${options.origin}`);
    return path.join(folder, place, `images-${String(first).padStart(8, '0')}-${count}.safetensors`);
  };
  return {
    has: async (job, first, count) => exists(await fileOf(job, first, count)),
    async shard(job, first, count) {
      const { columns, make } = job;
      const file = await fileOf(job, first, count);
      if (await exists(file)) return readShard(file, columns, count);
      const made = await make(first, count);
      await mkdir(path.dirname(file), { recursive: true });
      await writeShard(file, columns, count, made);
      return made;
    },
  };
}

const exists = (file: string) =>
  stat(file).then(
    () => true,
    () => false,
  );

async function writeShard(
  file: string,
  columns: readonly Column[],
  count: number,
  values: Shard['columns'],
): Promise<void> {
  const entries = columns.map(
    ({ name, width, dtype = 'f32' }): SafetensorsEntry => ({ name, dtype, shape: [count, width] }),
  );
  const plan = encodeSafetensors(entries, { sha256: digestOf(columns, values) });
  await writeFileAtomically(file, async (write) => {
    await write(plan.header);
    for (const { entry } of plan.tensors) {
      const { buffer, byteOffset, byteLength } = values[entry.name];
      await write(new Uint8Array(buffer, byteOffset, byteLength));
    }
  });
}

async function readShard(path: string, columns: readonly Column[], count: number): Promise<Shard['columns']> {
  const file = await openFile(path);
  try {
    const { weights, metadata } = await openSafetensors(file);
    const found: Record<string, Float32Array | Uint8Array> = {};
    for (const { name, width, dtype = 'f32' } of columns) {
      const weight = weights.get(name);
      if (weight?.dtype !== dtype || weight.shape.join() !== `${count},${width}`) {
        throw new DetailFlowError(
          'format',
          `does not hold [${count}, ${width}] values; remove the file to have it made anew`,
          { file: path, entry: name },
        );
      }
      found[name] = await valuesOf(weight);
    }
    if (metadata.get('sha256') !== digestOf(columns, found)) {
      throw new DetailFlowError('format', 'is damaged; remove the file to have it made anew', { file: path });
    }
    return found;
  } finally {
    await file.close();
  }
}

/** Of the values of a shard. */
function digestOf(columns: readonly Column[], values: Shard['columns']): string {
  const hash = createHash('sha256');
  for (const { name } of columns) {
    const { buffer, byteOffset, byteLength } = values[name];
    hash.update(new Uint8Array(buffer, byteOffset, byteLength));
  }
  return hash.digest('hex');
}

const valuesOf = (weight: Weight) => (weight.dtype === 'u8' ? weight.read() : readFloat32(weight));

async function shortHash(text: string): Promise<string> {
  const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text));
  return Array.from(new Uint8Array(digest, 0, 8), (byte) => byte.toString(16).padStart(2, '0')).join('');
}
