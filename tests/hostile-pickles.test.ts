import { stateDict } from '@detailflow/checkpoint';
import { describe, expect, test } from 'vitest';
import { buildTorch, op, pickle, utf8 } from '../packages/checkpoint/src/test-files';
import { besideModel, openPickle, openTorch, usePickle } from './hostile-pickle';
import { refused } from './refused';

// What files from strangers may try, by the names under which such attacks are known. Everything must be loaded as
// it stands or be refused with a typed error that names the file; nothing may be executed, hang or eat the memory.

describe('pickles', () => {
  const call = (module: string, name: string, ...args: (readonly number[])[]) => [
    ...op.global(module, name),
    ...op.tuple(...args),
    ...op.reduce,
  ];
  const gadgets: [string, string, number[][]][] = [
    ['os', 'system', [op.text('touch pwned')]],
    ['posix', 'system', [op.text('touch pwned')]],
    ['nt', 'system', [op.text('calc')]],
    ['os', 'popen', [op.text('id')]],
    ['os', 'execvp', [op.text('sh')]],
    ['subprocess', 'Popen', [op.list(op.text('id'))]],
    ['subprocess', 'check_output', [op.text('id')]],
    ['builtins', 'eval', [op.text('1')]],
    ['builtins', 'exec', [op.text('1')]],
    ['builtins', 'getattr', [op.text('x'), op.text('y')]],
    ['builtins', 'compile', [op.text('1')]],
    ['builtins', '__import__', [op.text('os')]],
    ['builtins', 'open', [op.text('/etc/passwd')]],
    ['__builtin__', 'eval', [op.text('1')]],
    ['torch.hub', 'load', [op.text('evil/repo')]],
    ['torch', 'load', [op.text('other.pt')]],
    ['torch.serialization', 'load', [op.text('other.pt')]],
    ['torch._utils', '_rebuild_sparse_tensor', [op.none]],
    ['torch.utils._config_module', 'load_config', [op.none]],
    ['torch.jit', 'load', [op.text('x')]],
    ['numpy.core.multiarray', 'scalar', [op.none]],
    ['numpy._core.multiarray', '_reconstruct', [op.none]],
    ['numpy', 'dtype', [op.text('f4')]],
    ['numpy.testing._private.utils', 'runstring', [op.text('x')]],
    ['_codecs', 'encode', [op.text('x'), op.text('latin1')]],
    ['runpy', '_run_code', [op.text('x')]],
    ['pickle', 'loads', [op.text('x')]],
    ['_pickle', 'loads', [op.text('x')]],
    ['dill', 'loads', [op.text('x')]],
    ['cloudpickle', 'loads', [op.text('x')]],
    ['joblib', 'load', [op.text('x')]],
    ['pip', 'main', [op.text('install')]],
    ['pdb', 'run', [op.text('x')]],
    ['timeit', 'timeit', [op.text('x')]],
    ['code', 'interact', []],
    ['ctypes', 'CDLL', [op.text('x.so')]],
    ['importlib', 'import_module', [op.text('os')]],
    ['operator', 'attrgetter', [op.text('system')]],
    ['functools', 'partial', [op.none]],
    ['types', 'CodeType', []],
    ['socket', 'create_connection', [op.none]],
    ['shutil', 'rmtree', [op.text('/')]],
    ['webbrowser', 'open', [op.text('http://x')]],
    ['requests.api', 'get', [op.text('http://x')]],
    ['asyncio.unix_events', '_UnixSubprocessTransport._start', [op.none]],
    ['lib2to3.pgen2.grammar', 'Grammar.loads', [op.none]],
    ['collections', 'OrderedDict.fromkeys', [op.none]],
    ['collections', 'OrderedDict.__class__', []],
    ['torch', 'FloatStorage.__init__', []],
    ['torch._utils', '_rebuild_tensor_v2.__globals__', []],
    ['argparse', '_os.system', [op.text('id')]],
    ['collections.OrderedDict', '', []],
    ['', 'collections.OrderedDict', []],
    ['__proto__', '__proto__', []],
    ['constructor', 'constructor', []],
  ];
  test.each(gadgets)('%s.%s through REDUCE', async (module, name, args) => {
    const full = JSON.stringify(`${module}.${name}`).replace(/\W/g, '\\$&');
    const message = new RegExp(`only ${full} of Python.*nothing of it was executed`);
    await refused(() => usePickle(call(module, name, ...args)), 'format', message);
    await refused(() => usePickle(op.dict(op.text('w'), call(module, name, ...args))), 'format', message);
    expect(await besideModel(call(module, name, ...args))).toEqual([0, 0, 128, 63, 0, 0, 0, 64]);
  });

  const system = op.global('os', 'system');
  const text = op.text('id');
  const ways: [string, readonly number[], RegExp][] = [
    ['REDUCE', [...system, ...op.tuple(text), 0x52], /os\.system/],
    ['INST', [0x28, ...text, 0x69, ...utf8('os\nsystem\n')], /os\.system/],
    ['OBJ', [0x28, ...system, ...text, 0x6f], /os\.system/],
    [
      'OBJ of an allowed class',
      [0x28, ...op.global('argparse', 'Namespace'), 0x6f],
      /an object of "argparse\.Namespace"/,
    ],
    ['NEWOBJ', [...system, ...op.tuple(text), 0x81], /os\.system/],
    ['NEWOBJ_EX', [...system, ...op.tuple(text), 0x7d, 0x92], /os\.system/],
    ['NEWOBJ_EX of an allowed class', [...op.global('torch', 'Size'), 0x29, 0x7d, 0x92], /wrong kind/],
    [
      'NEWOBJ_EX with named arguments',
      [...op.global('torch', 'Size'), 0x29, ...op.dict(op.text('x'), op.none), 0x92],
      /only "torch\.Size"/,
    ],
    ['STACK_GLOBAL', [0x8c, 2, ...utf8('os'), 0x8c, 6, ...utf8('system'), 0x93], /os\.system/],
    ['STACK_GLOBAL of numbers', [...op.int(1), ...op.int(2), 0x93], /no string/],
    [
      'STACK_GLOBAL from the memo',
      [...op.text('os'), 0x71, 0, ...op.text('system'), 0x71, 1, 0x30, 0x30, 0x68, 0, 0x68, 1, 0x93],
      /os\.system/,
    ],
    ['GLOBAL with a space', [...op.global('os ', 'system')], /"os \.system"/],
    ['GLOBAL without an end', [0x63, ...utf8('os')], /does not end/],
    ['GLOBAL of a megabyte', [0x63, ...new Uint8Array(1e6).fill(97), 10, 10], /does not end/],
    ['EXT1', [0x82, 1], /opcode 0x82/],
    ['EXT2', [0x83, 1, 0], /opcode 0x83/],
    ['EXT4', [0x84, 1, 0, 0, 0], /opcode 0x84/],
    ['PERSID', [0x50, ...utf8('0\n')], /not that of a storage/],
    ['PROTO 5 NEXT_BUFFER', [0x97], /opcode 0x97/],
    ['PROTO 5 READONLY_BUFFER', [0x4e, 0x98], /opcode 0x98/],
    ['PROTO 5 BYTEARRAY8', [0x96, 255, 255, 255, 255, 255, 255, 255, 127], /ends in the middle/],
    ['a second PROTO', [0x80, 2, 0x4e], /opcode 0x80/],
    ['an unknown opcode', [0xff], /opcode 0xff/],
    [
      'a call of a call',
      [...op.global('torch', 'Size'), ...op.tuple(op.tuple()), 0x52, 0x29, 0x52],
      /calls a tuple, which is no function/,
    ],
    [
      'BUILD with __setstate__',
      [...op.global('argparse', 'Namespace'), 0x29, 0x81, ...op.text('__setstate__'), 0x62],
      /strange state/,
    ],
    [
      'BUILD with a __dict__ of numbers',
      [...op.global('argparse', 'Namespace'), 0x29, 0x81, ...op.dict(op.int(1), op.int(2)), 0x62],
      /no string/,
    ],
    ['BUILD of a list', [0x5d, 0x7d, 0x62], /has none/],
    ['BUILD of a function', [...op.global('torch', 'Size'), 0x7d, 0x62], /has none/],
    [
      'BUILD with three states',
      [...op.global('argparse', 'Namespace'), 0x29, 0x81, ...op.tuple([0x7d], [0x7d], [0x7d]), 0x62],
      /strange state/,
    ],
    ['a persistent id that is a string', [...op.text('storage'), 0x51], /not that of a storage/],
    ['a persistent id that is empty', [0x29, 0x51], /not that of a storage/],
    [
      'a persistent id of six',
      [...op.tuple(op.text('storage'), op.none, op.none, op.none, op.none, op.none), 0x51],
      /not that/,
    ],
    ['a persistent id that contains itself', [0x5d, 0x71, 0, 0x68, 0, 0x61, 0x51], /not that/],
    [
      'a persistent id with a dict for a key',
      [...op.tuple(op.text('storage'), op.global('torch', 'FloatStorage'), [0x7d], op.none, op.int(1)), 0x51],
      /damaged/,
    ],
    [
      'a storage that is not there',
      [
        ...op.tuple(
          op.text('storage'),
          op.global('torch', 'FloatStorage'),
          op.text('../0'),
          op.text('cpu'),
          op.int(2),
        ),
        0x51,
      ],
      /is missing/,
    ],
    ['stack underflow: APPEND', [0x61], /empty stack/],
    ['stack underflow: SETITEM', [0x4e, 0x73], /empty stack/],
    ['stack underflow: BUILD', [0x62], /empty stack/],
    ['stack underflow: REDUCE', [0x29, 0x52], /empty stack/],
    ['stack underflow: BINPUT', [0x71, 0], /empty stack/],
    ['stack underflow: DUP', [0x32], /empty stack/],
    ['MARK as a value', [0x28, 0x85], /empty stack/],
    ['MARK as a callee', [0x28, 0x29, 0x52], /empty stack/],
    ['MARK as the result', [0x28], /empty stack/],
    ['TUPLE without MARK', [0x4e, 0x74], /mark/],
    ['SETITEMS onto a MARK', [0x28, 0x28, 0x4e, 0x4e, 0x75], /empty stack/],
    ['bytes after STOP', [0x4e, 0x2e, 0x4e], /bytes follow/],
    ['a nested pickle after STOP', [0x4e, 0x2e, 0x80, 2, ...system, ...op.tuple(text), 0x52], /bytes follow/],
    ['two values at STOP', [0x4e, 0x4e], /left over/],
    ['a frame beyond the end', [0x95, 255, 255, 255, 255, 255, 255, 255, 127, 0x4e], /frame/],
    ['LONG4 of 2 GB', [0x8b, 255, 255, 255, 127], /integer/],
    ['LONG4 of negative length', [0x8b, 255, 255, 255, 255], /integer/],
    ['BINUNICODE of 4 GB', [0x58, 255, 255, 255, 255], /ends in the middle/],
    ['BINUNICODE8 of 2^63', [0x8d, 0, 0, 0, 0, 0, 0, 0, 128], /ends in the middle/],
    ['BINBYTES8 of 2^64', [0x8e, 255, 255, 255, 255, 255, 255, 255, 255], /ends in the middle/],
    ['an unset memo', [0x6a, 0, 0, 0, 1], /never stored/],
  ];
  test.each(ways)('%s', (_, body, message) => refused(() => usePickle(body), 'format', message));

  test.each([
    ['no STOP', Uint8Array.of(0x80, 2, 0x4e)],
    ['nothing', new Uint8Array(0)],
    ['only a protocol', Uint8Array.of(0x80)],
    ['protocol 255', Uint8Array.of(0x80, 255, 0x4e, 0x2e)],
    ['protocol 0', utf8("cos\nsystem\n(S'id'\ntR.")],
  ])('%s', (_, data) => refused(async () => stateDict(await openTorch(buildTorch(data))), 'format'));

  test('a nested pickle in bytes stays bytes', async () => {
    const inner = pickle([...system, ...op.tuple(text), 0x52]);
    const { root } = await openPickle([0x43, inner.length, ...inner]);
    expect(root).toEqual(Uint8Array.from(inner));
  });
});
