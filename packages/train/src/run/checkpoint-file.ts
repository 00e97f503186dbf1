import { openFile, writeFileAtomically } from '@detailflow/checkpoint/node';
import {
  DetailFlowError,
  openSafetensors,
  readFloat32,
  Tensor,
  type Tensors,
  type Weight,
} from '@detailflow/core';
import { encodeSafetensors } from '@detailflow/core/safetensors-writer';

/** Everything a trainer needs to go on from a step. */
export interface Snapshot {
  readonly step: number;
  readonly tensors: Tensors;
}

/**
 * Writes a snapshot as a safetensors file, all of it or nothing.
 * @throws DetailFlowError `io`; an earlier file of that name stays as it was
 */
export async function writeSnapshot(path: string, { step, tensors }: Snapshot): Promise<void> {
  const entries = Object.entries(tensors).map(([name, tensor]) => ({
    name,
    dtype: tensor.type === 'int32' ? ('i32' as const) : ('f32' as const),
    shape: tensor.dims,
    tensor,
  }));
  const plan = encodeSafetensors(entries, { step: `${step}` });
  await writeFileAtomically(path, async (write) => {
    await write(plan.header);
    for (const { entry } of plan.tensors) {
      const { buffer, byteOffset, byteLength } = entry.tensor.data as Float32Array;
      await write(new Uint8Array(buffer, byteOffset, byteLength));
    }
  });
}

/**
 * Reads what a trainer's `snapshot()` gave.
 * @throws DetailFlowError `io`, or `format` when the file is no snapshot
 */
export async function readSnapshot(path: string): Promise<Snapshot> {
  const file = await openFile(path);
  try {
    const { weights, metadata } = await openSafetensors(file);
    const step = Number(metadata.get('step'));
    if (!Number.isSafeInteger(step) || step < 0) {
      throw new DetailFlowError('format', 'does not say of which step it is', { file: path, entry: 'step' });
    }
    const tensors: Record<string, Tensor> = {};
    for (const weight of weights.values()) tensors[weight.name] = await readTensor(weight, path);
    return { step, tensors };
  } finally {
    await file.close();
  }
}

async function readTensor(weight: Weight, file: string): Promise<Tensor> {
  if (weight.dtype === 'f32') return new Tensor('float32', await readFloat32(weight), weight.shape);
  if (weight.dtype === 'i32') {
    const bytes = await weight.read();
    return new Tensor('int32', new Int32Array(bytes.slice().buffer), weight.shape);
  }
  throw new DetailFlowError('format', `is stored as ${weight.dtype}; snapshots hold f32 and i32`, {
    file,
    entry: weight.name,
  });
}
