import { DetailFlowError, type StorageDType, storageBytes } from '@detailflow/core';
import { PickleGlobal } from './pickle-value';
import { foreignStorageBytes, storageDType, type TorchValue } from './torch-globals';

/** What the persistent id of a storage says. */
export interface StorageId {
  /** Undefined for types that are not read. */
  readonly dtype?: StorageDType;
  /** Class of the storage, as torch names it. */
  readonly type: string;
  /** Bytes of an element; undefined for a class that is not known. */
  readonly width?: number;
  readonly key: string;
  /** Number of elements. */
  readonly count: number;
  /** What comes after: nothing, or what the older format says of views. */
  readonly rest: readonly TorchValue[];
}

/**
 * @param mostParts the older format says of views in a sixth part
 * @throws DetailFlowError `format` for anything else
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
  if (!(type instanceof PickleGlobal) || typeof key !== 'string' || typeof count !== 'number') {
    throw new DetailFlowError('format', 'the persistent id of a storage is damaged', where);
  }
  if (!Number.isSafeInteger(count) || count < 0) {
    throw new DetailFlowError('format', `a storage claims ${count} elements`, where);
  }
  const dtype = storageDType(type);
  const width = dtype === undefined ? foreignStorageBytes(type) : storageBytes[dtype];
  return { dtype, type: type.name, width, key, count, rest };
}

/** The error for the elements of a storage whose type is not read. */
export function foreignStorage(type: string, where: { file: string; entry?: string }): DetailFlowError {
  return new DetailFlowError(
    'dtype',
    `a tensor of ${type.slice(0, 200)} is not supported; convert it to a float or integer one before saving`,
    where,
  );
}
