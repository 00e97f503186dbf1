import { DetailFlowError, type Weight, type Weights } from '@detailflow/core';
import { describePickle, type PickleDict, PickleGlobal, PickleRecord } from './pickle-value';
import type { TorchCheckpoint } from './torch-checkpoint';
import type { TorchValue } from './torch-globals';
import { mostTensorBytes, TorchStorage, TorchTensor } from './torch-tensor';
import { withoutPrefixes } from './weight-names';

/**
 * The tensors that lie under `key` of a checkpoint (`model`, `ema`), or in the checkpoint itself, as weights by name. The
 * prefixes `module.` and `_orig_mod.` that DistributedDataParallel and torch.compile leave are taken off. An entry that is
 * no tensor, or none that can be read, throws when its shape, type or bytes are asked for, and says what it is.
 * @throws DetailFlowError `weights` when there is no such key or two names become one, `format` when it holds
 * no tensor at all, `limit` when its tensors take far more bytes than the file has
 */
export function stateDict(checkpoint: TorchCheckpoint, key?: string): Weights {
  const { file, root } = checkpoint;
  const found = key === undefined ? root : dictEntries(root)?.get(key);
  const entries = dictEntries(found);
  if (entries === undefined) throw noStateDict(checkpoint, key, found);
  const place = (name: string) => (key === undefined ? name : `${key}.${name}`);
  const weights: Weight[] = [];
  let bytes = 0;
  let tensors = 0;
  for (const [name, value] of entries) {
    if (typeof name !== 'string') {
      throw new DetailFlowError('format', 'a state dict must hold named tensors only', {
        file,
        entry: place(`<${kindOf(name)}>`),
      });
    }
    if (!(value instanceof TorchTensor)) {
      weights.push(unreadable(name, () => noTensor(value, { file, entry: place(name) })));
      continue;
    }
    const { dtype, shape, location } = value;
    tensors++;
    bytes += value.bytes;
    if (bytes > mostTensorBytes(value.fileBytes)) {
      throw new DetailFlowError(
        'limit',
        `the tensors of this state dict would take more than ${mostTensorBytes(value.fileBytes)} bytes, the file ` +
          `has ${value.fileBytes}; save it without expanding tensors`,
        { file, entry: place(name) },
      );
    }
    weights.push({ name, dtype, shape, location, read: () => value.read() });
  }
  const [[name, value] = []] = entries;
  if (tensors === 0 && typeof name === 'string') throw noTensor(value, { file, entry: place(name) });
  return withoutPrefixes(weights, file);
}

/** Entries of a dict, or of an object of Python that is filled like one; undefined for anything else. */
export function dictEntries(
  value: TorchValue | undefined,
): PickleDict<TorchTensor | TorchStorage> | undefined {
  if (value instanceof Map) return value;
  return value instanceof PickleRecord ? value.entries : undefined;
}

/** A weight that fails at the first question. */
function unreadable(name: string, fault: () => DetailFlowError): Weight {
  return {
    name,
    get dtype(): never {
      throw fault();
    },
    get shape(): never {
      throw fault();
    },
    get location(): never {
      throw fault();
    },
    read: async () => {
      throw fault();
    },
  };
}

/** What a value is, in a few words for messages. */
export function kindOf(value: TorchValue | undefined): string {
  if (value instanceof TorchTensor) return 'a tensor';
  return value instanceof TorchStorage ? 'a storage without a tensor' : (describePickle(value) as string);
}

function noTensor(value: TorchValue | undefined, where: { file: string; entry: string }): DetailFlowError {
  if (value instanceof PickleRecord && value.fault) {
    return new DetailFlowError(value.fault.code, `cannot be read: ${kindOf(value)}`, {
      ...where,
      cause: value.fault,
    });
  }
  return new DetailFlowError('format', `is ${kindOf(value)}, no tensor${notExecuted(value)}`, where);
}

function noStateDict(
  { file, root }: TorchCheckpoint,
  key: string | undefined,
  found: TorchValue | undefined,
): DetailFlowError {
  const names = [...(dictEntries(root)?.keys() ?? [])].slice(0, 20).map((name) => {
    return typeof name === 'string' ? name.slice(0, 100) : `<${kindOf(name)}>`;
  });
  const keys = names.length > 0 ? names.join(', ') : 'none';
  const is = found === undefined ? '' : `: it is ${kindOf(found)}${notExecuted(found)}`;
  const wanted = key === undefined ? '' : ` "${key}"`;
  const code = found === undefined ? 'weights' : 'format';
  return new DetailFlowError(code, `there is no state dict${wanted} (keys: ${keys})${is}`, { file });
}

const notExecuted = (value: TorchValue | undefined): string =>
  value instanceof PickleRecord || value instanceof PickleGlobal
    ? '; nothing of it was executed. If you trust the file, load it in Python and save only its tensors'
    : '';
