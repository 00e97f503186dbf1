import { readTorchCheckpoint, stateDict } from '@detailflow/checkpoint';
import { bytesSource, type Weight, type Weights } from '@detailflow/core';
import { buildTorch, op, pickle, tensor } from '../packages/checkpoint/src/test-files';

export const openTorch = (bytes: Uint8Array) => readTorchCheckpoint(bytesSource(bytes, 'x.pt'));
export const openPickle = (...parts: (readonly number[])[]) => openTorch(buildTorch(pickle(...parts)));
/** Opens a pickle and uses what it holds as a state dict. */
export const usePickle = async (...parts: (readonly number[])[]) =>
  weightsOf(stateDict(await openPickle(...parts)));
/** Bytes of the model beside which a value lies. */
export async function besideModel(value: readonly number[]): Promise<number[]> {
  const model = op.dict(op.text('w'), tensor());
  const checkpoint = await openPickle(op.dict(op.text('x'), value, op.text('model'), model));
  return [...(await (stateDict(checkpoint, 'model').get('w') as Weight).read())];
}
/** Reads every weight. */
export async function weightsOf(weights: Weights) {
  for (const weight of weights.values()) await weight.read();
  return weights;
}
