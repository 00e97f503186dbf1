// Writes a checkpoint as torch.save does: a zip of stored entries with a pickle of tensors.
import { open } from 'node:fs/promises';
import { crc32 } from 'node:zlib';

const ALIGNMENT = 64;

/**
 * @param {string} file
 * @param {Record<string, unknown>} root plain values, and Maps of name -> { shape, fill(chunk: Float32Array, at: number) }
 *   for state dicts of float32 tensors
 */
export async function writeTorchFile(file, root) {
  const tensors = [];
  const pickle = encodePickle(root, tensors);
  const handle = await open(file, 'w');
  const folder = file.replace(/^.*\//, '').replace(/\.pt$/, '');
  const entries = [];
  let at = 0;
  const write = async (bytes) => {
    await handle.write(bytes, 0, bytes.length, at);
    at += bytes.length;
  };

  async function add(name, size, parts) {
    const path = Buffer.from(`${folder}/${name}`);
    const header = Buffer.alloc(30 + path.length);
    const padding = (ALIGNMENT - ((at + header.length + 4) % ALIGNMENT)) % ALIGNMENT;
    const extra = Buffer.alloc(4 + padding);
    extra.write('FB', 0, 'latin1');
    extra.writeUInt16LE(padding, 2);
    header.writeUInt32LE(0x04034b50, 0);
    header.writeUInt32LE(size, 18);
    header.writeUInt32LE(size, 22);
    header.writeUInt16LE(path.length, 26);
    header.writeUInt16LE(extra.length, 28);
    path.copy(header, 30);
    const offset = at;
    await write(header);
    await write(extra);
    let crc = 0;
    for (const part of parts) {
      crc = crc32(part, crc);
      await write(part);
    }
    const end = at;
    const sum = Buffer.alloc(4);
    sum.writeUInt32LE(crc);
    await handle.write(sum, 0, 4, offset + 14);
    at = end;
    if (at > 0xffffffff) throw new Error(`${file} would exceed 4 GiB`);
    entries.push({ path, offset, size, crc });
  }

  await add('data.pkl', pickle.length, [pickle]);
  await add('byteorder', 6, [Buffer.from('little')]);
  for (const [key, tensor] of tensors.entries()) {
    const count = tensor.shape.reduce((a, b) => a * b, 1);
    await add(`data/${key}`, 4 * count, chunksOf(tensor, count));
  }
  await add('version', 2, [Buffer.from('3\n')]);

  const directory = at;
  for (const { path, offset, size, crc } of entries) {
    const record = Buffer.alloc(46);
    record.writeUInt32LE(0x02014b50, 0);
    record.writeUInt32LE(crc, 16);
    record.writeUInt32LE(size, 20);
    record.writeUInt32LE(size, 24);
    record.writeUInt16LE(path.length, 28);
    record.writeUInt32LE(offset, 42);
    await write(Buffer.concat([record, path]));
  }
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(entries.length, 8);
  end.writeUInt16LE(entries.length, 10);
  end.writeUInt32LE(at - directory, 12);
  end.writeUInt32LE(directory, 16);
  await write(end);
  await handle.close();
}

function* chunksOf(tensor, count) {
  const size = 1 << 20;
  for (let first = 0; first < count; first += size) {
    const chunk = new Float32Array(Math.min(size, count - first));
    tensor.fill(chunk, first);
    yield Buffer.from(chunk.buffer);
  }
}

/** Protocol 2, with the opcodes that torch.save uses. */
function encodePickle(root, tensors) {
  const parts = [Buffer.from([0x80, 2])];
  const raw = (text) => parts.push(Buffer.from(text, 'latin1'));
  const text = (value) => {
    const bytes = Buffer.from(value);
    const length = Buffer.alloc(4);
    length.writeUInt32LE(bytes.length);
    parts.push(Buffer.from('X'), length, bytes);
  };
  const int = (value) => {
    if (value < 0x80000000) {
      const bytes = Buffer.alloc(5);
      bytes[0] = 0x4a;
      bytes.writeInt32LE(value, 1);
      parts.push(bytes);
      return;
    }
    const bytes = Buffer.alloc(8);
    bytes.writeBigInt64LE(BigInt(value));
    parts.push(Buffer.from([0x8a, 8]), bytes);
  };
  const tuple = (values, write) => {
    raw('(');
    values.forEach(write);
    raw('t');
  };
  const orderedDict = () => raw('ccollections\nOrderedDict\n)R');

  function tensor(value) {
    raw('ctorch._utils\n_rebuild_tensor_v2\n(');
    raw('(');
    text('storage');
    raw('ctorch\nFloatStorage\n');
    text(String(tensors.length));
    text('cpu');
    int(value.shape.reduce((a, b) => a * b, 1));
    raw('tQ');
    int(0);
    tuple(value.shape, int);
    tuple(
      value.shape.map((_, i) => value.shape.slice(i + 1).reduce((a, b) => a * b, 1)),
      int,
    );
    parts.push(Buffer.from([0x89]));
    orderedDict();
    raw('tR');
    tensors.push(value);
  }

  function value(item) {
    if (item === null) raw('N');
    else if (typeof item === 'string') text(item);
    else if (typeof item === 'number') int(item);
    else if (item instanceof Map) {
      orderedDict();
      raw('(');
      for (const [name, entry] of item) {
        text(name);
        tensor(entry);
      }
      raw('u');
    } else {
      raw('}(');
      for (const [name, entry] of Object.entries(item)) {
        text(name);
        value(entry);
      }
      raw('u');
    }
  }

  value(root);
  raw('.');
  return Buffer.concat(parts);
}
