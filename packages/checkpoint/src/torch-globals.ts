import { DetailFlowError, type StorageDType } from '@detailflow/core';
import { type PickleDict, PickleGlobal, PickleObject, type PickleValue } from './pickle';
import { TorchStorage, TorchTensor } from './torch-tensor';

/**
 * A value of a torch checkpoint as plain data: lists and tuples are arrays, dicts (also ordered ones) are Maps,
 * tensors are {@link TorchTensor}s that are not read yet, an argparse.Namespace is an object with attributes.
 */
export type TorchValue = PickleValue<TorchTensor | TorchStorage>;

type Item = TorchTensor | TorchStorage;

const storageDTypes: Readonly<Record<string, StorageDType>> = {
  DoubleStorage: 'f64',
  FloatStorage: 'f32',
  HalfStorage: 'f16',
  BFloat16Storage: 'bf16',
  LongStorage: 'i64',
  IntStorage: 'i32',
  ByteStorage: 'u8',
  BoolStorage: 'bool',
};

const foreignStorages = [
  'Short',
  'Char',
  'ComplexFloat',
  'ComplexDouble',
  'QInt8',
  'QUInt8',
  'QInt32',
  'Untyped',
];

/** The data type of a storage class such as `torch.FloatStorage`; undefined for anything else. */
export function storageDType(value: TorchValue): StorageDType | undefined {
  return value instanceof PickleGlobal ? storageDTypes[value.name.replace(/^torch\./, '')] : undefined;
}

/** Whether a value is the class of a storage that torch knows and this library does not. */
export function isForeignStorage(value: TorchValue): value is PickleGlobal<Item> {
  return (
    value instanceof PickleGlobal && foreignStorages.some((name) => value.name === `torch.${name}Storage`)
  );
}

/**
 * The names a checkpoint's pickle may use, and what calling each of them yields. None runs foreign code: they
 * build Maps, numbers, tensors without data, and objects that hold attributes.
 */
export function torchGlobals(file: string, entry: string): ReadonlyMap<string, PickleGlobal<Item>> {
  const fail = (name: string) =>
    new DetailFlowError('format', `the pickle is refused: ${name} has arguments of the wrong kind`, {
      file,
      entry,
    });

  const rebuildTensor = (name: string, [storage, offset, shape, strides]: readonly TorchValue[]) => {
    if (!(storage instanceof TorchStorage) || typeof offset !== 'number') throw fail(name);
    if (!isNumbers(shape) || !isNumbers(strides)) throw fail(name);
    return new TorchTensor(storage, { shape: [...shape], strides: [...strides], offset });
  };

  const table: Record<string, ((args: readonly TorchValue[]) => TorchValue) | undefined> = {
    'collections.OrderedDict'(args) {
      const dict: PickleDict<Item> = new Map();
      if (args.length === 0) return dict;
      // Protocol 2 writes an empty call and sets the items; older writers pass them as [key, value] pairs.
      if (args.length !== 1 || !Array.isArray(args[0])) throw fail('OrderedDict');
      for (const pair of args[0]) {
        if (!Array.isArray(pair) || pair.length !== 2 || typeof pair[0] !== 'string')
          throw fail('OrderedDict');
        dict.set(pair[0], pair[1]);
      }
      return dict;
    },
    'torch._utils._rebuild_tensor_v2': (args) => rebuildTensor('_rebuild_tensor_v2', args),
    // Of torch before 0.4.
    'torch._utils._rebuild_tensor': (args) => rebuildTensor('_rebuild_tensor', args),
    'torch._utils._rebuild_parameter'([tensor]) {
      if (!(tensor instanceof TorchTensor)) throw fail('_rebuild_parameter');
      return tensor;
    },
    'torch._utils._rebuild_parameter_with_state'([tensor]) {
      if (!(tensor instanceof TorchTensor)) throw fail('_rebuild_parameter_with_state');
      return tensor;
    },
    'torch.Size'([extents]) {
      if (!isNumbers(extents)) throw fail('torch.Size');
      return extents;
    },
    'argparse.Namespace': () => new PickleObject('argparse.Namespace'),
    // Numbers of a yaml file that ruamel keeps together with how they were written; that part is dropped.
    'ruamel.yaml.scalarfloat.ScalarFloat'([value]) {
      if (typeof value !== 'number') throw fail('ScalarFloat');
      return value;
    },
    'ruamel.yaml.anchor.Anchor': () => new PickleObject('ruamel.yaml.anchor.Anchor'),
  };
  for (const name of Object.keys(storageDTypes)) table[`torch.${name}`] = undefined;
  for (const name of foreignStorages) table[`torch.${name}Storage`] = undefined;
  return new Map(Object.entries(table).map(([name, make]) => [name, new PickleGlobal(name, make)]));
}

function isNumbers(value: TorchValue | undefined): value is number[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'number');
}
