import type { FamilyModel } from '@detailflow/checkpoint';
import { DetailFlowError, describe, type WeightDType } from '@detailflow/core';
import { agreedDType } from '@detailflow/core/rounded-weight';
import { type CachedCopyOptions, openCachedCopy } from './cached-copy';
import type { ModelSource } from './folder-source';
import { type OpenFamilyOptions, openFamilyModel } from './open-family';

/** How the matrices of a model are wanted, and whether a rounded copy is kept. */
export interface OpenForDTypeOptions extends OpenFamilyOptions, Pick<CachedCopyOptions, 'onProgress'> {
  readonly dtype?: WeightDType;
  readonly cache?: boolean | string;
}

/**
 * Opens a model, or the rounded copy of it where one is asked for.
 * @throws DetailFlowError `invalid-argument` when a copy is asked for that would not be rounded
 */
export async function openForDType(source: ModelSource, options: OpenForDTypeOptions): Promise<FamilyModel> {
  const { dtype, cache = false, onProgress, families, settings, hub, signal } = options;
  if (cache === false) return openFamilyModel(source, { families, settings, hub, signal });
  if (dtype !== 'q8' && dtype !== 'q4') {
    throw new DetailFlowError(
      'invalid-argument',
      `cache keeps a rounded copy, and the dtype is ${describe(dtype)}; give q8 or q4 with it`,
    );
  }
  return openCachedCopy(source, { dtype, cache, onProgress, families, settings, hub, signal });
}

/** @throws DetailFlowError `dtype` where the model is stored in few bits, and held otherwise */
export function requireDType({ ar }: FamilyModel, dtype: WeightDType | undefined): void {
  if (ar) agreedDType(ar.weights, dtype, ar.file);
}
