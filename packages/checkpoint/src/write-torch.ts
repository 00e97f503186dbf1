import { crc32 } from 'node:zlib';
import { DetailFlowError, fileLimits, type Weight, type Weights } from '@detailflow/core';
import { writeFileAtomically } from './atomic-file';
import { encodePickle, type TorchContents } from './encode-pickle';
import { unsafePath } from './paths';

const ALIGNMENT = 64;
/** Bytes of a file: larger ones would need the zip64 format. */
export const MOST_BYTES = 0xffffffff;
/** One more would say that a zip64 record follows. */
const MOST_ENTRIES = 0xfffe;
/** Besides the storages: pickle, byte order, version. */
const OTHER_ENTRIES = 3;

/**
 * Writes a checkpoint as torch.save does: a zip of stored entries with a pickle of tensors, all of it or nothing. One
 * tensor at a time is held in memory.
 * @param contents values and state dicts by name, or weights: the file is the state dict itself
 * @throws DetailFlowError `io`; `limit` beyond 4 GiB, 65,531 tensors, 64 axes or what else is not read again
 *   (`fileLimits.torch`); `dtype` for weights that are not f32, f16, bf16 or i64
 */
export async function writeTorchCheckpoint(path: string, contents: TorchContents | Weights): Promise<void> {
  const tensors: Weight[] = [];
  const pickle = encodePickle(contents, tensors, path);
  const limit = (reason: string) =>
    new DetailFlowError('limit', `cannot be written: ${reason}`, { file: path });
  const { pickleBytes } = fileLimits.torch;
  if (pickle.length > pickleBytes) {
    throw limit(`names and values take ${pickle.length} bytes; at most ${pickleBytes} are read`);
  }
  const mostTensors = Math.min(MOST_ENTRIES, fileLimits.zip.members) - OTHER_ENTRIES;
  if (tensors.length > mostTensors)
    throw limit(`${tensors.length} tensors; at most ${mostTensors} fit such a file`);
  const stem = path.replace(/^.*[/\\]/, '').replace(/\.pt$/, '');
  const folder = unsafePath(stem) === undefined ? stem : 'archive';
  await writeFileAtomically(path, async (write) => {
    const zip = new ZipWriter(write, folder, path);
    await zip.add('data.pkl', pickle);
    await zip.add('byteorder', Buffer.from('little'));
    for (const [key, tensor] of tensors.entries()) await zip.add(`data/${key}`, await tensor.read());
    await zip.add('version', Buffer.from('3\n'));
    await zip.end();
  });
}

interface Entry {
  readonly name: Buffer;
  readonly offset: number;
  readonly size: number;
  readonly crc: number;
}

/** A zip of stored entries whose bytes are aligned. */
class ZipWriter {
  readonly #entries: Entry[] = [];
  #at = 0;

  constructor(
    private readonly output: (bytes: Uint8Array) => Promise<void>,
    private readonly folder: string,
    private readonly file: string,
  ) {}

  async add(name: string, bytes: Uint8Array): Promise<void> {
    const path = Buffer.from(`${this.folder}/${name}`);
    const padding = (ALIGNMENT - ((this.#at + 30 + path.length + 4) % ALIGNMENT)) % ALIGNMENT;
    const header = Buffer.alloc(30 + path.length + 4 + padding);
    const entry = { name: path, offset: this.#at, size: bytes.length, crc: crc32(bytes) };
    header.writeUInt32LE(0x04034b50, 0);
    header.writeUInt32LE(entry.crc, 14);
    header.writeUInt32LE(entry.size, 18);
    header.writeUInt32LE(entry.size, 22);
    header.writeUInt16LE(path.length, 26);
    header.writeUInt16LE(4 + padding, 28);
    path.copy(header, 30);
    header.write('FB', 30 + path.length, 'latin1');
    header.writeUInt16LE(padding, 32 + path.length);
    await this.#write(header);
    await this.#write(bytes);
    this.#entries.push(entry);
  }

  async end(): Promise<void> {
    const directory = this.#at;
    for (const { name, offset, size, crc } of this.#entries) {
      const record = Buffer.alloc(46);
      record.writeUInt32LE(0x02014b50, 0);
      record.writeUInt32LE(crc, 16);
      record.writeUInt32LE(size, 20);
      record.writeUInt32LE(size, 24);
      record.writeUInt16LE(name.length, 28);
      record.writeUInt32LE(offset, 42);
      await this.#write(Buffer.concat([record, name]));
    }
    const end = Buffer.alloc(22);
    end.writeUInt32LE(0x06054b50, 0);
    end.writeUInt16LE(this.#entries.length, 8);
    end.writeUInt16LE(this.#entries.length, 10);
    end.writeUInt32LE(this.#at - directory, 12);
    end.writeUInt32LE(directory, 16);
    await this.#write(end);
  }

  async #write(bytes: Uint8Array): Promise<void> {
    this.#at += bytes.length;
    if (this.#at > MOST_BYTES) {
      throw new DetailFlowError('limit', 'the checkpoint would exceed 4 GiB; write a bundle instead', {
        file: this.file,
      });
    }
    await this.output(bytes);
  }
}
