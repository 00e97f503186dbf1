// Small files in the formats under test, built so that any part of them can be a lie.

const u16 = (value) => {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16LE(value & 0xffff);
  return bytes;
};
const u32 = (value) => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(Number(BigInt.asUintN(32, BigInt(Math.trunc(value)))));
  return bytes;
};
const u64 = (value) => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt.asUintN(64, BigInt(Math.trunc(value))));
  return bytes;
};

/** @param {string} header JSON text @param {number} [claimed] what the length prefix says */
export function safetensors(header, data, claimed = Buffer.byteLength(header)) {
  return Buffer.concat([u64(claimed), Buffer.from(header), data]);
}

/**
 * A zip of stored members. Whatever a member or `end` states replaces the truth:
 * member { name, data, localName, flags, localFlags, method, localMethod, size, packed, localSize, offset, disk, wide },
 * end { count, size, offset, comment, wide, gap, tail }.
 */
export function zip(members, end = {}) {
  const parts = [];
  const directory = [];
  let at = 0;
  for (const member of members) {
    const { data, wide = false, flags = 0, method = 0 } = member;
    const name = Buffer.from(member.name);
    const localName = Buffer.from(member.localName ?? member.name);
    const size = member.size ?? data.length;
    const packed = member.packed ?? size;
    const localSize = member.localSize ?? data.length;
    const offset = member.offset ?? at;
    const localExtra = wide ? [u16(1), u16(16), u64(localSize), u64(localSize)] : [];
    const extra = wide ? [u16(1), u16(24), u64(size), u64(packed), u64(offset)] : [];
    const short = (value) => u32(wide ? 0xffffffff : value);
    const local = Buffer.concat([
      Buffer.concat([
        u32(0x04034b50),
        u16(20),
        u16(member.localFlags ?? flags),
        u16(member.localMethod ?? method),
        u32(0),
        u32(0),
      ]),
      Buffer.concat([
        short(localSize),
        short(localSize),
        u16(localName.length),
        u16(wide ? 20 : 0),
        localName,
        ...localExtra,
      ]),
      data,
    ]);
    parts.push(local);
    at += local.length;
    directory.push(
      Buffer.concat([
        Buffer.concat([
          u32(0x02014b50),
          u16(20),
          u16(20),
          u16(flags),
          u16(method),
          u32(0),
          u32(0),
          short(packed),
          short(size),
        ]),
        Buffer.concat([
          u16(name.length),
          u16(wide ? 28 : 0),
          u16(0),
          u16(member.disk ?? 0),
          u16(0),
          u32(0),
          short(offset),
        ]),
        Buffer.concat([name, ...extra]),
      ]),
    );
  }
  const records = Buffer.concat(directory);
  const count = end.count ?? members.length;
  const size = end.size ?? records.length;
  const offset = end.offset ?? at;
  parts.push(records);
  if (end.wide) {
    parts.push(
      u32(0x06064b50),
      u64(44),
      u16(45),
      u16(45),
      u32(0),
      u32(0),
      u64(count),
      u64(count),
      u64(size),
      u64(offset),
    );
    parts.push(u32(0x07064b50), u32(0), u64(at + records.length), u32(1));
  }
  if (end.gap) parts.push(end.gap);
  const comment = Buffer.from(end.comment ?? '');
  const narrow = end.wide
    ? [u16(0xffff), u16(0xffff), u32(0xffffffff), u32(0xffffffff)]
    : [u16(count), u16(count), u32(size), u32(offset)];
  return Buffer.concat([
    ...parts,
    u32(0x06054b50),
    u16(0),
    u16(0),
    ...narrow,
    u16(comment.length),
    comment,
    end.tail ?? Buffer.alloc(0),
  ]);
}

const latin1 = (text) => Buffer.from(text, 'latin1');

/** Opcodes of pickles. */
export const op = {
  text: (value) => Buffer.concat([latin1('X'), u32(Buffer.byteLength(value)), Buffer.from(value)]),
  int: (value) =>
    Number.isSafeInteger(value) && Math.abs(value) < 2 ** 31
      ? Buffer.concat([latin1('J'), u32(value)])
      : Buffer.concat([Buffer.from([0x8a, 9]), u64(value), Buffer.from([value < 0 ? 255 : 0])]),
  float: (value) => {
    const bytes = Buffer.alloc(9, 'G');
    bytes.writeDoubleBE(value, 1);
    return bytes;
  },
  global: (module, name) => Buffer.from(`c${module}\n${name}\n`),
  code: (text) => latin1(text),
};

/** A pickle as a list of opcodes: a checkpoint { model: { name: tensor }, args: Namespace, steps: 3 }. */
export function pickleOps(tensors, args) {
  const ops = [
    op.code('}('),
    op.text('model'),
    op.global('collections', 'OrderedDict'),
    op.code(')R('),
    ...dictOf(tensors),
    op.code('u'),
  ];
  ops.push(op.text('args'), op.global('argparse', 'Namespace'), op.code(')\x81}('));
  for (const [key, value] of Object.entries(args)) {
    ops.push(
      op.text(key),
      typeof value === 'number' ? op.float(value) : value === null ? op.code('N') : op.text(String(value)),
    );
  }
  return [...ops, op.code('ub'), op.text('steps'), op.int(3), op.code('u')];
}

function dictOf(tensors) {
  return tensors.flatMap(({ name, key, type = 'FloatStorage', count, offset = 0, shape, strides }) => [
    op.text(name),
    op.global('torch._utils', '_rebuild_tensor_v2'),
    op.code('(('),
    op.text('storage'),
    op.global('torch', type),
    op.text(key),
    op.text('cpu'),
    op.int(count),
    op.code('tQ'),
    op.int(offset),
    op.code('('),
    ...shape.map(op.int),
    op.code('t('),
    ...strides.map(op.int),
    op.code('t\x89'),
    op.global('collections', 'OrderedDict'),
    op.code(')RtR'),
  ]);
}

export const pickle = (ops) => Buffer.concat([Buffer.from([0x80, 2]), ...ops, latin1('.')]);

export function npy(header, data, version = [1, 0], claimed) {
  const text = Buffer.from(`${header}\n`, 'latin1');
  const length = claimed ?? text.length;
  return Buffer.concat([
    latin1('\x93NUMPY'),
    Buffer.from(version),
    version[0] === 1 ? u16(length) : u32(length),
    text,
    data,
  ]);
}
