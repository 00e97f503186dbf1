import { type ByteSource, DetailFlowError, fileLimits } from '@detailflow/core';
import { unpickleFirst } from './pickle';
import { foreignStorage, parseStorageId, type StorageId } from './storage-id';
import type { ReadTorchOptions, TorchCheckpoint } from './torch-checkpoint';
import { type TorchValue, torchGlobals } from './torch-globals';
import { TorchStorage } from './torch-tensor';

/** The first pickle of such a file is this number. */
const MAGIC = 0x1950a86a20f9469cfc6cn;
/** How protocols 0 and 1 write it. */
const MAGIC_TEXT = `L${MAGIC}L`;
const PROTOCOL = 1001;
/** Storages begin with their number of elements. */
const COUNT_BYTES = 8;

/** Whether a file looks like what torch before 1.6 wrote: pickles, one after the other. */
export async function isLegacyCheckpoint(source: ByteSource): Promise<boolean> {
  const start = await source.read(0, Math.min(MAGIC_TEXT.length, source.size));
  return (start[0] === 0x80 && start[1] <= 5) || String.fromCharCode(...start) === MAGIC_TEXT;
}

/**
 * Opens a checkpoint of torch before 1.6: five pickles (a magic number, the version, the machine, the object, the keys of
 * its storages), then the storages in the order of the keys, each its count and its elements.
 * @throws DetailFlowError as `readTorchCheckpoint`
 */
export async function readLegacyCheckpoint(
  source: ByteSource,
  { maxPickleBytes = fileLimits.torch.pickleBytes, signal }: ReadTorchOptions,
): Promise<TorchCheckpoint> {
  const file = source.name;
  const fail = (reason: string, entry?: string) => new DetailFlowError('format', reason, { file, entry });
  const head = await source.read(0, Math.min(source.size, maxPickleBytes));
  signal?.throwIfAborted();
  let at = 0;
  const next = (entry: string, persistent: (id: TorchValue) => TorchValue): TorchValue => {
    const rules = { file, entry, globals: torchGlobals(file, entry), persistent };
    try {
      const { value, end } = unpickleFirst(head.subarray(at), rules);
      at += end;
      return value;
    } catch (error) {
      if (head.length === source.size || !DetailFlowError.isInstance(error)) throw error;
      throw new DetailFlowError(
        'limit',
        `the pickle is damaged, or larger than ${maxPickleBytes} bytes (option maxPickleBytes): ${error.message}`,
        { file, entry },
      );
    }
  };
  const none = () => {
    throw fail('a storage where there should be none');
  };

  if (BigInt(numberOf(next('magic number', none))) !== MAGIC)
    throw fail('not a torch checkpoint: another number stands first');
  const version = numberOf(next('version', none));
  if (version !== PROTOCOL) throw fail(`format version ${version} is not known (${PROTOCOL} is)`);
  const system = next('system', none);
  if (system instanceof Map && system.get('little_endian') === false) {
    throw fail('it was saved on a big-endian machine; save it again on a little-endian one');
  }

  // The places of the storages come after the object that refers to them: it is read twice.
  const objectAt = at;
  let contradiction: DetailFlowError | undefined;
  const ids = new Map<string, StorageId>();
  next('object', (id) => {
    const where = { file, entry: 'object' };
    const parsed = parseStorageId(id, where, 6);
    const known = ids.get(parsed.key);
    if (!known) ids.set(parsed.key, parsed);
    else if (known.type !== parsed.type || known.count !== parsed.count) {
      const reason = `the storage ${JSON.stringify(parsed.key.slice(0, 100))} is described in two ways`;
      contradiction ??= fail(reason, 'object');
    }
    if (parsed.dtype === undefined) throw foreignStorage(parsed.type, where);
    return new TorchStorage(source, parsed.key, parsed.dtype, 0, parsed.count);
  });
  if (contradiction) throw contradiction;
  const keys = next('keys', none);
  const storages = await placeStorages(source, at, keys, ids);
  signal?.throwIfAborted();

  at = objectAt;
  const root = next('object', (id) => {
    const where = { file, entry: 'object' };
    const { key, dtype, type, count, rest } = parseStorageId(id, where, 6);
    if (dtype === undefined) throw foreignStorage(type, where);
    const offset = storages.get(key);
    if (offset === undefined)
      throw fail(`the storage ${JSON.stringify(key.slice(0, 100))} is missing`, 'object');
    if (rest.some((view) => view !== null))
      throw fail('a storage is a part of another one; save it again', 'object');
    return new TorchStorage(source, key, dtype, offset, count);
  });
  return { file, root };
}

/**
 * Where the elements of the storages lie, from `start` on. After one of a type whose width nobody knows no other can be
 * found.
 */
async function placeStorages(
  source: ByteSource,
  start: number,
  keys: TorchValue,
  ids: ReadonlyMap<string, StorageId>,
): Promise<Map<string, number>> {
  const file = source.name;
  const fail = (reason: string, entry: string) => new DetailFlowError('format', reason, { file, entry });
  if (!Array.isArray(keys)) throw fail('the list of storages is missing', 'keys');
  const storages = new Map<string, number>();
  let at = start;
  for (const key of keys) {
    const id = typeof key === 'string' ? ids.get(key) : undefined;
    if (!id || storages.has(id.key)) throw fail('the list of storages does not fit the object', 'keys');
    if (id.width === undefined) return storages;
    const end = at + COUNT_BYTES + id.count * id.width;
    if (end > source.size) throw fail(`the file ends inside the storage "${id.key}"`, id.key);
    const bytes = await source.read(at, COUNT_BYTES);
    const count = new DataView(bytes.buffer, bytes.byteOffset).getBigInt64(0, true);
    if (count !== BigInt(id.count))
      throw fail(`it has ${count} elements, the object says ${id.count}`, id.key);
    storages.set(id.key, at + COUNT_BYTES);
    at = end;
  }
  return storages;
}

function numberOf(value: TorchValue): number | bigint {
  return typeof value === 'bigint' || typeof value === 'number' ? value : -1;
}
