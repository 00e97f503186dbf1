import { type ByteSource, checkOptions, DetailFlowError, fileLimits, storageBytes } from '@detailflow/core';
import { isLegacyCheckpoint, readLegacyCheckpoint } from './legacy-checkpoint';
import { unpickle } from './pickle';
import { foreignStorage, parseStorageId } from './storage-id';
import { type TorchValue, torchGlobals } from './torch-globals';
import { TorchStorage } from './torch-tensor';
import { readZip, type ZipEntry } from './zip';
import { openMember } from './zip-member';

/** A .pt file, read without executing anything in it. */
export interface TorchCheckpoint {
  /** Name of the file, for messages. */
  readonly file: string;
  /** What was given to torch.save. Tensors in it are not read yet. */
  readonly root: TorchValue;
}

/** Limits of reading a .pt file. */
export interface ReadTorchOptions {
  /** Largest pickle that is interpreted, in bytes; 64 MB unless told. Tensor data does not count. */
  readonly maxPickleBytes?: number;
  readonly signal?: AbortSignal;
}

/**
 * Opens what `torch.save` wrote (zip files, and the older format before torch 1.6) without running any of it: the pickle
 * is interpreted as data. What it holds of other kinds than tensors and plain values is kept as inert records, and tensors
 * that cannot be read are found out when they are asked for: neither stands in the way of the rest. Tensors stay on disk
 * until they are read; keep the source open for as long.
 * @throws DetailFlowError `format` for damaged or encrypted files; `limit`; `io`
 */
export async function readTorchCheckpoint(
  source: ByteSource,
  options: ReadTorchOptions = {},
): Promise<TorchCheckpoint> {
  checkOptions('readTorchCheckpoint', options, { maxPickleBytes: true, signal: true });
  const { maxPickleBytes = fileLimits.torch.pickleBytes, signal } = options;
  const file = source.name;
  const fail = (reason: string, entry?: string) => new DetailFlowError('format', reason, { file, entry });
  await refuseOtherFormats(source, fail);
  if (await isLegacyCheckpoint(source)) return readLegacyCheckpoint(source, { maxPickleBytes, signal });
  signal?.throwIfAborted();
  const members = await readZip(source);
  signal?.throwIfAborted();

  const top = archiveFolder(members, fail);
  const pickle = members.get(`${top}data.pkl`);
  if (pickle === undefined) throw fail('not a torch checkpoint: it has no data.pkl');
  if (members.has(`${top}constants.pkl`)) {
    throw fail('this is a TorchScript program, not a checkpoint; save the state with torch.save');
  }
  await checkVersion(source, members, top, fail);
  const member = openMember(source, withChecksum(pickle));
  if (pickle.size > maxPickleBytes) {
    throw new DetailFlowError(
      'limit',
      `the pickle has ${pickle.size} bytes; at most ${maxPickleBytes} are read (option maxPickleBytes)`,
      { file, entry: pickle.name },
    );
  }
  const bytes = await member.readAll();
  signal?.throwIfAborted();
  const root = unpickle(bytes, {
    file,
    entry: pickle.name,
    globals: torchGlobals(file, pickle.name),
    persistent: (id) => findStorage(id, source, members, top),
  });
  return { file, root };
}

/** torch.save may be told to leave checksums out, and states 0 then. */
const withChecksum = (entry: ZipEntry): ZipEntry =>
  entry.crc32 === 0 ? { ...entry, crc32: undefined } : entry;

type Fail = (reason: string, entry?: string) => DetailFlowError;

async function refuseOtherFormats(source: ByteSource, fail: Fail): Promise<void> {
  const [a, b, c] = await source.read(0, Math.min(3, source.size));
  if (a === 0x1f && b === 0x8b && c === 8) throw fail('it is compressed with gzip; unpack it first');
}

/** The folder that holds the checkpoint; archivers may have put other files beside it. */
function archiveFolder(members: ReadonlyMap<string, ZipEntry>, fail: Fail): string {
  const found = [...members.keys()].filter((name) => /^[^/]+\/data\.pkl$/.test(name));
  if (found.length === 1) return found[0].slice(0, -'data.pkl'.length);
  throw fail(
    found.length === 0
      ? 'not a torch checkpoint: it has no data.pkl in a folder'
      : `it holds several checkpoints: ${found.slice(0, 5).join(', ')}`,
  );
}

async function checkVersion(
  source: ByteSource,
  members: ReadonlyMap<string, ZipEntry>,
  top: string,
  fail: Fail,
): Promise<void> {
  const text = async (entry: ZipEntry) => {
    if (entry.size > 64) throw fail('this member should be a short text', entry.name);
    return new TextDecoder().decode(await openMember(source, withChecksum(entry)).readAll()).trim();
  };
  const version = members.get(`${top}version`);
  if (version === undefined) throw fail('not a torch checkpoint: it has no version');
  const stated = await text(version);
  if (!/^([1-9]|10)$/.test(stated)) {
    throw fail(`format version ${JSON.stringify(stated)} is not known (1 to 10 are)`, version.name);
  }
  const order = members.get(`${top}byteorder`);
  if (order !== undefined && (await text(order)) !== 'little') {
    throw fail('it was saved on a big-endian machine; save it again on a little-endian one', order.name);
  }
}

function findStorage(
  id: TorchValue,
  source: ByteSource,
  members: ReadonlyMap<string, ZipEntry>,
  top: string,
): TorchStorage {
  const file = source.name;
  const entry = `${top}data.pkl`;
  const { dtype, type, key, count } = parseStorageId(id, { file, entry });
  if (dtype === undefined) throw foreignStorage(type, { file, entry });
  const member = members.get(`${top}data/${key}`);
  if (member === undefined) {
    throw new DetailFlowError('format', `the storage ${JSON.stringify(key.slice(0, 100))} is missing`, {
      file,
      entry,
    });
  }
  const bytes = count * storageBytes[dtype];
  if (!member.fault && bytes !== member.size) {
    throw new DetailFlowError(
      'format',
      `a storage of ${count} ${dtype} takes ${bytes} bytes, not ${member.size}`,
      {
        file,
        entry: member.name,
      },
    );
  }
  return new TorchStorage(source, member.name, dtype, member.offset, count, withChecksum(member));
}
