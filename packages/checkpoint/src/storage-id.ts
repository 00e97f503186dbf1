import { DetailFlowError, type StorageDType } from '@detailflow/core';
import { isForeignStorage, storageDType, type TorchValue } from './torch-globals';

/** What the persistent id of a storage says. */
export interface StorageId {
  readonly dtype: StorageDType;
  readonly key: string;
  /** Number of elements. */
  readonly count: number;
  /** What comes after: nothing, or what the older format says of views. */
  readonly rest: readonly TorchValue[];
}

/**
 * @param mostParts the older format says of views in a sixth part
 * @throws DetailFlowError `format` for anything else, `dtype` for storages of unsupported types
 */
export function parseStorageId(
  id: TorchValue,
  where: { file: string; entry?: string },
  mostParts = 5,
): StorageId {
  if (!Array.isArray(id) || id.length < 5 || id.length > mostParts || id[0] !== 'storage') {
    throw new DetailFlowError('format', 'a persistent id is not that of a storage', where);
  }
  const [, type, key, , count, ...rest] = id;
  if (isForeignStorage(type)) {
    throw new DetailFlowError(
      'dtype',
      `${type.name} is not supported; convert its tensors to float or integer ones before saving`,
      where,
    );
  }
  const dtype = storageDType(type);
  if (dtype === undefined || typeof key !== 'string' || typeof count !== 'number') {
    throw new DetailFlowError('format', 'the persistent id of a storage is damaged', where);
  }
  if (!Number.isSafeInteger(count) || count < 0) {
    throw new DetailFlowError('format', `a storage claims ${count} elements`, where);
  }
  return { dtype, key, count, rest };
}
