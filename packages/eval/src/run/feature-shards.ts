import { mkdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { openFile, writeFileAtomically } from '@detailflow/checkpoint/node';
import { DetailFlowError, encodeSafetensors, openSafetensors, readFloat32 } from '@detailflow/core';
import { type CollectOptions, collectFeatures, type FeatureSet } from '../feature-set';
import type { ImageSource } from '../image-source';

/** Images of a shard. */
const SHARD = 1000;

/**
 * Features of all images of a source, kept in a folder shard by shard: what is there is not computed again. Any shard
 * may be removed to be made anew.
 * @param folder every source, network and origin has a folder of its own inside
 * @throws DetailFlowError as {@link collectFeatures}; `format` when a shard is broken
 */
export async function keptFeatures(
  source: ImageSource,
  folder: string,
  options: CollectOptions & {
    /** What the features depend on besides the source: the files of model and network, see {@link fileStamp}. */
    readonly origin: string;
  },
): Promise<FeatureSet> {
  const { extractor, onProgress, origin } = options;
  const place = path.join(
    folder,
    await shortHash(`${extractor.name} ${source.name} ${source.labels.length} ${origin}`),
  );
  await mkdir(place, { recursive: true });
  const total = source.labels.length;
  const parts: FeatureSet[] = [];
  for (let first = 0; first < total; first += SHARD) {
    const count = Math.min(SHARD, total - first);
    const file = path.join(place, `images-${String(first).padStart(8, '0')}-${count}.safetensors`);
    const labels = source.labels.slice(first, first + count);
    const known = await stat(file).then(
      () => readShard(file, { ...extractor, count, labels }),
      () => undefined,
    );
    if (known) parts.push(known);
    else {
      const made = await collectFeatures(source, {
        ...options,
        first,
        count,
        onProgress: (done) => onProgress?.(first + done, total),
      });
      await writeShard(file, made);
      parts.push(made);
    }
    onProgress?.(first + count, total);
  }
  return joinSets(parts);
}

type ShardShape = Pick<FeatureSet, 'count' | 'width' | 'spatialWidth' | 'classes' | 'labels'>;

const tensorsOf = ({ width, spatialWidth, classes }: ShardShape) =>
  [
    { name: 'pool', columns: width },
    { name: 'logits', columns: classes },
    ...(spatialWidth === undefined ? [] : [{ name: 'spatial', columns: spatialWidth }]),
  ] as { name: 'pool' | 'logits' | 'spatial'; columns: number }[];

async function writeShard(file: string, set: FeatureSet): Promise<void> {
  const plan = encodeSafetensors(
    tensorsOf(set).map(({ name, columns }) => ({ name, dtype: 'f32' as const, shape: [set.count, columns] })),
  );
  await writeFileAtomically(file, async (write) => {
    await write(plan.header);
    for (const { entry } of plan.tensors) {
      const { buffer, byteOffset, byteLength } = set[entry.name] as Float32Array;
      await write(new Uint8Array(buffer, byteOffset, byteLength));
    }
  });
}

async function readShard(path: string, shape: ShardShape): Promise<FeatureSet> {
  const file = await openFile(path);
  try {
    const { weights } = await openSafetensors(file);
    const found: Record<string, Float32Array> = {};
    for (const { name, columns } of tensorsOf(shape)) {
      const weight = weights.get(name);
      if (weight?.dtype !== 'f32' || weight.shape.join() !== `${shape.count},${columns}`) {
        throw new DetailFlowError(
          'format',
          `does not hold [${shape.count}, ${columns}] features; remove the file`,
          {
            file: path,
            entry: name,
          },
        );
      }
      found[name] = await readFloat32(weight);
    }
    const { count, width, spatialWidth, classes, labels } = shape;
    return { count, width, spatialWidth, classes, labels, ...(found as Pick<FeatureSet, 'pool' | 'logits'>) };
  } finally {
    await file.close();
  }
}

function joinSets(parts: readonly FeatureSet[]): FeatureSet {
  const [{ width, spatialWidth, classes }] = parts;
  const count = parts.reduce((sum, part) => sum + part.count, 0);
  const joined = (name: 'pool' | 'logits' | 'spatial', columns: number) => {
    const out = new Float32Array(count * columns);
    let at = 0;
    for (const part of parts) {
      out.set(part[name] as Float32Array, at);
      at += part.count * columns;
    }
    return out;
  };
  const labels = new Int32Array(count);
  let at = 0;
  for (const part of parts) {
    labels.set(part.labels, at);
    at += part.count;
  }
  return {
    ...{ count, width, spatialWidth, classes, labels },
    pool: joined('pool', width),
    logits: joined('logits', classes),
    ...(spatialWidth !== undefined && { spatial: joined('spatial', spatialWidth) }),
  };
}

async function shortHash(text: string): Promise<string> {
  const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text));
  return Array.from(new Uint8Array(digest, 0, 8), (byte) => byte.toString(16).padStart(2, '0')).join('');
}
