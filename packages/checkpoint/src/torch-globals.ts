import { DetailFlowError, type StorageDType } from '@detailflow/core';
import {
  describePickle,
  type PickleDict,
  PickleGlobal,
  PickleObject,
  PickleRecord,
  type PickleValue,
} from './pickle-value';
import { TorchStorage, TorchTensor } from './torch-tensor';

/**
 * A value of a torch checkpoint as plain data: lists and tuples are arrays, dicts (also ordered ones and counters) are Maps,
 * tensors are {@link TorchTensor}s that are not read yet, an argparse.Namespace is an object with attributes. Everything
 * else that Python would build is a {@link PickleRecord} or a {@link PickleGlobal}: kept, never run, and refused where it is
 * used.
 */
export type TorchValue = PickleValue<TorchTensor | TorchStorage>;

type Item = TorchTensor | TorchStorage;
type Make = (args: readonly TorchValue[]) => TorchValue;

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

/** Storages that torch knows and this library does not, and the bytes of their elements. */
const foreignStorages: Readonly<Record<string, number>> = {
  CharStorage: 1,
  ShortStorage: 2,
  ComplexFloatStorage: 8,
  ComplexDoubleStorage: 16,
  QInt8Storage: 1,
  QUInt8Storage: 1,
  QInt32Storage: 4,
  UntypedStorage: 1,
};

const withoutModule = (name: string): string => name.replace(/^torch\.(?:storage\.)?/, '');

/** The data type of a storage class such as `torch.FloatStorage`; undefined for anything else. */
export function storageDType(value: TorchValue): StorageDType | undefined {
  if (!(value instanceof PickleGlobal)) return undefined;
  const name = withoutModule(value.name);
  return Object.hasOwn(storageDTypes, name) ? storageDTypes[name] : undefined;
}

/** Bytes of an element of a storage class that torch knows and this library does not; undefined for anything else. */
export function foreignStorageBytes(value: TorchValue): number | undefined {
  if (!(value instanceof PickleGlobal)) return undefined;
  const name = withoutModule(value.name);
  return Object.hasOwn(foreignStorages, name) ? foreignStorages[name] : undefined;
}

/** Classes of tensors whose data are read as those of any tensor. */
const tensorTypes = ['torch.Tensor', 'torch.nn.parameter.Parameter', 'torch.nn.parameter.Buffer'];

/** Functions that `_rebuild_from_type_v2` may be given; itself is none of them. */
const rebuilds = /^torch\._utils\._rebuild_(?:tensor|tensor_v2|parameter|parameter_with_state)$/;

/**
 * The names that mean something in a checkpoint's pickle, and what calling each of them yields. None runs foreign code: they
 * build Maps, Sets, numbers, tensors without data, and objects that hold attributes. Any other name stays a name.
 */
export function torchGlobals(file: string, entry: string): ReadonlyMap<string, PickleGlobal<Item>> {
  const fail = (name: string) =>
    new DetailFlowError('format', `the pickle is damaged: ${name} has arguments of the wrong kind`, {
      file,
      entry,
    });
  const unsupported = (reason: string) => new DetailFlowError('unsupported', reason, { file, entry });

  const rebuildTensor = (name: string, args: readonly TorchValue[]) => {
    const [storage, offset, shape, strides, , , metadata] = args;
    if (storage instanceof PickleRecord && storage.fault) throw storage.fault;
    if (!(storage instanceof TorchStorage) || typeof offset !== 'number') throw fail(name);
    if (!isNumbers(shape) || !isNumbers(strides)) throw fail(name);
    if (metadata instanceof Map && (metadata.get('neg') === true || metadata.get('conj') === true))
      throw unsupported('a tensor is saved as the negative or conjugate of its data; save its clone()');
    return new TorchTensor(storage, { shape: [...shape], strides: [...strides], offset });
  };
  /** What stands for the tensor it was made of: parameters. */
  const sameTensor =
    (name: string): Make =>
    ([tensor]) => {
      if (tensor instanceof PickleRecord && tensor.fault) throw tensor.fault;
      if (tensor instanceof TorchTensor) return tensor;
      if (tensor instanceof PickleRecord) throw unsupported(`a parameter made of ${describePickle(tensor)}`);
      throw fail(name);
    };
  /** Tensors of a subclass, or with attributes, as FSDP leaves them: function, class, its arguments, attributes. */
  const rebuildFromType: Make = ([rebuild, type, args]) => {
    if (!(rebuild instanceof PickleGlobal && type instanceof PickleGlobal && Array.isArray(args)))
      throw fail('_rebuild_from_type_v2');
    if (!tensorTypes.includes(type.name))
      throw unsupported(
        `a tensor of the class ${JSON.stringify(type.name)} is not read; save it as a torch.Tensor`,
      );
    if (rebuild.make === undefined || !rebuilds.test(rebuild.name))
      throw unsupported(
        `a tensor made by ${JSON.stringify(rebuild.name)} is not read; save it as a dense one`,
      );
    return rebuild.make(args);
  };
  const set: Make = ([items = []]) => {
    if (!Array.isArray(items)) throw fail('set');
    return new Set(items);
  };
  /** A dict from nothing, another dict, or [key, value] pairs. */
  const dict = (name: string, [items]: readonly TorchValue[]): PickleDict<Item> => {
    if (items === undefined || items instanceof Map) return new Map(items);
    if (!Array.isArray(items)) throw fail(name);
    const result: PickleDict<Item> = new Map();
    for (const pair of items) {
      if (!Array.isArray(pair) || pair.length !== 2) throw fail(name);
      result.set(pair[0], pair[1]);
    }
    return result;
  };
  /** How protocols 0 and 1 make an object of a class: the class, a built-in class it comes from, that one's value. */
  const reconstruct: Make = ([type, , value]) => {
    if (!(type instanceof PickleGlobal)) throw fail('_reconstructor');
    if (type.make === undefined) return new PickleRecord(type.name, [value]);
    return type.make(value === null || value === undefined ? [] : [value]);
  };
  // Numbers of a yaml file that ruamel keeps together with how they were written; that part is dropped.
  const number: Make = ([value]) => {
    if (typeof value !== 'number') throw fail('ScalarFloat');
    return value;
  };

  const table: Readonly<Record<string, Make>> = {
    'collections.OrderedDict': (args) => dict('OrderedDict', args),
    'collections.Counter': (args) => dict('Counter', args),
    'collections.defaultdict': ([, ...args]) => dict('defaultdict', args),
    'builtins.set': set,
    '__builtin__.set': set,
    'builtins.frozenset': set,
    '__builtin__.frozenset': set,
    'copyreg._reconstructor': reconstruct,
    'copy_reg._reconstructor': reconstruct,
    'torch._utils._rebuild_tensor_v2': (args) => rebuildTensor('_rebuild_tensor_v2', args),
    // Of torch before 0.4.
    'torch._utils._rebuild_tensor': (args) => rebuildTensor('_rebuild_tensor', args),
    'torch._utils._rebuild_parameter': sameTensor('_rebuild_parameter'),
    'torch._utils._rebuild_parameter_with_state': sameTensor('_rebuild_parameter_with_state'),
    'torch._tensor._rebuild_from_type': rebuildFromType,
    'torch._tensor._rebuild_from_type_v2': rebuildFromType,
    'torch.Size'([extents]) {
      if (!isNumbers(extents)) throw fail('torch.Size');
      return extents;
    },
    'argparse.Namespace': () => new PickleObject('argparse.Namespace'),
    'ruamel.yaml.scalarfloat.ScalarFloat': number,
    'ruamel.yaml.scalarint.ScalarInt': number,
    'ruamel.yaml.anchor.Anchor': () => new PickleObject('ruamel.yaml.anchor.Anchor'),
  };
  return new Map(Object.entries(table).map(([name, make]) => [name, new PickleGlobal(name, make)]));
}

function isNumbers(value: TorchValue | undefined): value is number[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'number');
}
