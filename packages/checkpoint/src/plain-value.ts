import { checkOptions, DetailFlowError } from '@detailflow/core';
import { PickleObject } from './pickle-value';
import { dictEntries, kindOf } from './state-dict';
import type { TorchCheckpoint } from './torch-checkpoint';
import type { TorchValue } from './torch-globals';

const maxPlainDepth = 32;
const maxPlainValues = 100_000;

/** Stands in plain data for something that is none. It has no properties; as JSON it says what it is. */
export class ForeignValue {
  readonly #what: string;

  constructor(what: string) {
    this.#what = what;
  }

  /** What it is, in words: foreign objects are never written out. */
  toJSON(): string {
    return `<${this.#what}>`;
  }
}

/**
 * A part of a checkpoint as JSON-like data: Namespaces and dicts become objects, tuples and sets arrays, large integers
 * numbers. For the arguments of a training run.
 * @param options.foreign what is no plain value (dates, paths, tensors), or lies too deep, is refused, or kept as a
 * {@link ForeignValue} for whoever needs it to refuse
 * @throws DetailFlowError `format` for tensors, bytes and objects of Python, `limit` for deep or endless structures
 */
export function plainValue(
  checkpoint: TorchCheckpoint,
  value: TorchValue,
  options: { readonly foreign?: 'refuse' | 'keep' } = {},
): unknown {
  const { file } = checkpoint;
  checkOptions('plainValue', options, { foreign: true });
  const keeps = options.foreign === 'keep';
  let values = 0;
  const walk = (item: TorchValue, depth: number): unknown => {
    if (depth > maxPlainDepth || ++values > maxPlainValues) {
      const most = `${maxPlainDepth} levels and ${maxPlainValues} values`;
      if (keeps) return new ForeignValue(`beyond ${most}`);
      throw new DetailFlowError('limit', `the arguments exceed ${most}`, { file });
    }
    if (typeof item === 'bigint') return Number(item);
    if (item === null || typeof item !== 'object') return item;
    if (Array.isArray(item)) return item.map((part) => walk(part, depth + 1));
    if (item instanceof Set) return [...item].map((part) => walk(part, depth + 1));
    const entries = item instanceof PickleObject ? item.attributes : dictEntries(item);
    if (entries === undefined) {
      if (keeps) return new ForeignValue(kindOf(item));
      throw new DetailFlowError('format', `the arguments hold ${kindOf(item)}, which is no plain value`, {
        file,
      });
    }
    return Object.fromEntries(
      [...entries].map(([key, part]) => {
        const plain = key === null || typeof key !== 'object';
        return [plain ? String(key) : `<${kindOf(key)}>`, walk(part, depth + 1)];
      }),
    );
  };
  return walk(value, 0);
}
