// .pt files: a zip of stored members, a pickle in it, and tensors that are views of storages.
import { readFileSync } from 'node:fs';
import { plainValue, readTorchCheckpoint, stateDict } from '@detailflow/checkpoint';
import { asSource, readAll } from './checks.mjs';
import { op, pickle, zip } from './files.mjs';
import { edges, mutateBytes } from './mutate.mjs';
import * as seeds from './seeds.mjs';

const twoWeights = [
  { name: 'module.a.weight', shape: [2, 3] },
  { name: 'b', shape: [2] },
];

const opcodes =
  '(012FGIJKLMNPQRSTUVXabcdeghijlopqrstu]}\x80\x81\x82\x83\x84\x85\x86\x87\x88\x89\x8a\x8b\x8c\x8d\x8e\x8f\x90\x91\x92\x93\x94\x95\x96\x97\x98.';
const globals = [
  ['os', 'system'],
  ['posix', 'system'],
  ['builtins', 'eval'],
  ['builtins', 'getattr'],
  ['__builtin__', 'exec'],
  ['numpy.core.multiarray', 'scalar'],
  ['_codecs', 'encode'],
  ['torch', 'Size'],
  ['torch', 'FloatStorage'],
  ['torch', 'QInt8Storage'],
  ['torch._utils', '_rebuild_tensor_v2'],
  ['torch._utils', '_rebuild_parameter'],
  ['torch._tensor', '_rebuild_from_type_v2'],
  ['torch', 'Tensor'],
  ['torch', 'float32'],
  ['collections', 'Counter'],
  ['collections', 'defaultdict'],
  ['copy_reg', '_reconstructor'],
  ['builtins', 'set'],
  ['pathlib', 'PosixPath'],
  ['collections', 'OrderedDict'],
  ['argparse', 'Namespace'],
  ['ruamel.yaml.scalarfloat', 'ScalarFloat'],
  ['__proto__', 'constructor'],
  ['', ''],
];

function strangeOp(random) {
  switch (random.below(14)) {
    case 0:
      return op.int(random.pick(edges) * random.pick([1, -1]));
    case 1:
      return op.float(random.pick([Number.NaN, Number.POSITIVE_INFINITY, -0, 0.5, 1e308, 2, -1]));
    case 2:
      return op.global(...random.pick(globals));
    case 3:
      return op.code(random.pick(opcodes));
    case 4:
      return Buffer.concat([op.code(random.pick(opcodes)), Buffer.from([random.below(256)])]);
    case 5:
      return Buffer.concat([
        op.code(random.pick('XBTru\x8b\x8d\x8e\x95\x96')),
        Buffer.from([255, 255, 255, random.pick([0, 127, 255]), 0, 0, 0, 0]),
      ]);
    case 6: // a list that contains itself
      return op.code(']q\x00h\x00a');
    case 7: // ever longer lists of lists
      return Buffer.concat(
        Array.from({ length: 1 + random.below(60) }, (_, i) =>
          op.code(`]q${String.fromCharCode(i + 1)}(${`h${String.fromCharCode(i)}`.repeat(10)}e`),
        ),
      );
    case 8:
      return op.code('('.repeat(random.pick([1, 10, 5000])));
    case 9:
      return op.code(']'.repeat(random.pick([1, 100, 3000])) + 'a'.repeat(random.pick([0, 99, 2999])));
    case 10:
      return op.code('}q\x00h\x00b');
    case 11:
      return op.text(random.pick(['__proto__', 'constructor', 'storage', 'model', '\0', 'x'.repeat(1000)]));
    case 12:
      return op.code(`\x80\x02${random.pick(['N.', '}.', ''])}`);
    default: {
      // one call, over and over, of values kept in the memo
      const many = random.chance(0.05) ? 20_000 : random.pick([1, 50, 300]);
      const pairs = Array.from({ length: many }, (_, i) =>
        Buffer.concat([op.text(`k${i}`), op.code('N\x86')]),
      );
      const [callee, list] = random.pick([
        [op.global('torch', 'Size'), Array(many).fill(op.code('K\x01'))],
        [op.global('collections', 'OrderedDict'), pairs],
      ]);
      const calls = op.code('h\x01h\x02R0'.repeat(many));
      return Buffer.concat([callee, op.code('q\x01]('), ...list, op.code('e\x85q\x02'), calls]);
    }
  }
}

function breakOps(ops, random) {
  const out = [...ops];
  for (let n = 1 + random.below(3); n > 0; n--) {
    const at = random.below(out.length);
    switch (random.below(7)) {
      case 0:
        out.splice(at, 1);
        break;
      case 1:
        out.splice(at, 0, out[random.below(out.length)]);
        break;
      case 2: {
        const other = random.below(out.length);
        [out[at], out[other]] = [out[other], out[at]];
        break;
      }
      case 3: {
        const numbers = [...out.keys()].filter((i) => out[i][0] === 0x4a);
        if (numbers.length > 0)
          out[random.pick(numbers)] = op.int(random.pick(edges) * random.pick([1, 1, -1]));
        break;
      }
      case 4:
        out[at] = strangeOp(random);
        break;
      default:
        out.splice(at, 0, strangeOp(random));
    }
  }
  return out;
}

const lies = [
  'localName',
  'flags',
  'localFlags',
  'method',
  'localMethod',
  'size',
  'packed',
  'localSize',
  'offset',
  'disk',
  'wide',
  'name',
];
const memberNames = [
  'top/data.pkl',
  'top/../x',
  '/top/x',
  'C:/x',
  'top\\x',
  'top/\0',
  '',
  'top/',
  'other/version',
  'top/constants.pkl',
  'top//x',
  'x'.repeat(70),
  'top/data/9',
];

function breakZip(members, random) {
  const out = members.map((member) => ({ ...member }));
  const end = {};
  for (let n = 1 + random.below(2); n > 0; n--) {
    const at = random.below(out.length);
    const choice = random.below(10);
    if (choice < 6) {
      const lie = random.pick(lies);
      out[at][lie] = /name/i.test(lie)
        ? random.pick(memberNames)
        : lie === 'wide'
          ? true
          : random.pick(edges);
    } else if (choice === 6) out.splice(at, 1);
    else if (choice === 7) out.push({ ...out[at] });
    else {
      const lie = random.pick(['count', 'size', 'offset', 'comment', 'wide', 'tail', 'gap']);
      const values = {
        comment: 'PK\x05\x06',
        wide: true,
        tail: Buffer.from('PK\x05\x06'),
        gap: Buffer.alloc(random.below(99)),
      };
      end[lie] = values[lie] ?? random.pick(edges);
    }
  }
  return zip(out, end);
}

const goldenFile = new URL('../../tests/fixtures/golden/B/tokenizer/checkpoints/0000064.pt', import.meta.url);

export const torchTarget = {
  name: 'torch',
  small: () => [['x.pt', seeds.torchFile(twoWeights)]],
  make(random, facts) {
    if (random.chance(0.02)) {
      const whole = readFileSync(goldenFile);
      const near = random.chance(0.5) ? whole.length - 20_000 : 0; // the directory, or the pickle
      const part = Buffer.from(whole.subarray(near, near + 20_000));
      return {
        'x.pt': Buffer.concat([
          whole.subarray(0, near),
          mutateBytes(part, random),
          whole.subarray(near + 20_000),
        ]),
      };
    }
    const choice = random.below(10);
    const { ops, storages } = seeds.torchParts(twoWeights);
    const whole = pickle(ops);
    if (choice < 2) return { 'x.pt': mutateBytes(seeds.torchFile(twoWeights), random) };
    if (choice < 4) return { 'x.pt': breakZip(seeds.torchMembers(whole, storages), random) };
    facts.fills = storages.map(({ data }) => data[0]); // the storages are whole: a tensor holds bytes of one of them
    const broken = choice < 6 ? mutateBytes(whole, random) : pickle(breakOps(ops, random));
    return { 'x.pt': zip(seeds.torchMembers(broken, storages), { wide: random.chance(0.2) }) };
  },
  async run(input, save) {
    const source = await asSource(input, save);
    try {
      const checkpoint = await readTorchCheckpoint(source);
      const failures = [];
      for (const key of ['model', 'args']) {
        try {
          if (key === 'model') await readAll(stateDict(checkpoint, key), input.facts);
          else if (checkpoint.root instanceof Map)
            JSON.stringify(plainValue(checkpoint, checkpoint.root.get(key) ?? null));
        } catch (error) {
          failures.push(error);
        }
      }
      if (failures.length > 0) throw failures[0];
    } finally {
      await source.close?.();
    }
  },
};
