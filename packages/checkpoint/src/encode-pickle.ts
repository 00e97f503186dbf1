import { DetailFlowError, fileLimits, type Weight, type Weights } from '@detailflow/core';

/**
 * A value of a checkpoint: an object becomes a dict, numbers that are whole become int and others float, an array becomes a list and a
 * frozen one a tuple, a weight a tensor, and weights by name the OrderedDict of a state dict.
 */
export type TorchItem =
  | string
  | number
  | boolean
  | null
  | Weight
  | Weights
  | NumberedItems
  | readonly TorchItem[]
  | { readonly [name: string]: TorchItem };

/** A dict whose keys are numbers. */
export class NumberedItems {
  constructor(readonly items: ReadonlyMap<number, TorchItem>) {}
}

/** What goes into a file: plain values, and weights for the state dicts. */
export type TorchContents = { readonly [name: string]: TorchItem };

const storages: Readonly<Record<string, string>> = {
  f32: 'FloatStorage',
  i64: 'LongStorage',
  f16: 'HalfStorage',
  bf16: 'BFloat16Storage',
};

/**
 * A pickle of protocol 2, with the opcodes that torch.save uses.
 * @param tensors takes the weights whose data belong to it, in the order of their storages
 * @throws DetailFlowError `dtype`, `limit`
 */
export function encodePickle(
  contents: TorchContents | Weights,
  tensors: Weight[],
  file: string,
): Uint8Array<ArrayBuffer> {
  const writer = new PickleWriter(tensors, file);
  writer.raw('\x80\x02');
  writer.item(contents);
  writer.raw('.');
  return Buffer.concat(writer.parts);
}

const isWeight = (item: object): item is Weight => typeof (item as Partial<Weight>).read === 'function';

class PickleWriter {
  readonly parts: Uint8Array[] = [];

  constructor(
    private readonly tensors: Weight[],
    private readonly file: string,
  ) {}

  raw(text: string): void {
    this.parts.push(Buffer.from(text, 'latin1'));
  }

  item(item: TorchItem): void {
    if (item === null) this.raw('N');
    else if (typeof item === 'string') this.#text(item);
    else if (typeof item === 'boolean') this.raw(item ? '\x88' : '\x89');
    else if (typeof item === 'number') this.#number(item);
    else if (Array.isArray(item)) this.#list(item);
    else if (item instanceof Map) this.#stateDict(item);
    else if (item instanceof NumberedItems) this.#dict(item.items, (key) => this.#number(key));
    else if (isWeight(item)) this.#tensor(item);
    else this.#dict(Object.entries(item as TorchContents), (key) => this.#text(key));
  }

  #list(items: readonly TorchItem[]): void {
    const isTuple = Object.isFrozen(items);
    this.raw(isTuple ? '(' : '](');
    for (const item of items) this.item(item);
    this.raw(isTuple ? 't' : 'e');
  }

  #dict<Key>(entries: Iterable<readonly [Key, TorchItem]>, key: (key: Key) => void): void {
    this.raw('}(');
    for (const [name, item] of entries) {
      key(name);
      this.item(item);
    }
    this.raw('u');
  }

  #stateDict(weights: Weights): void {
    this.raw('ccollections\nOrderedDict\n)R(');
    for (const [key, weight] of weights) {
      this.#text(key);
      this.#tensor(weight);
    }
    this.raw('u');
  }

  #text(value: string): void {
    const bytes = Buffer.from(value);
    const length = Buffer.alloc(4);
    length.writeUInt32LE(bytes.length);
    this.parts.push(Buffer.from('X'), length, bytes);
  }

  #number(value: number): void {
    if (Number.isSafeInteger(value)) {
      this.#int(value);
      return;
    }
    const bytes = Buffer.alloc(9);
    bytes.write('G', 'latin1');
    bytes.writeDoubleBE(value, 1);
    this.parts.push(bytes);
  }

  #int(value: number): void {
    const isSmall = Math.abs(value) < 0x80000000;
    const bytes = Buffer.alloc(isSmall ? 5 : 10);
    bytes[0] = isSmall ? 0x4a : 0x8a;
    if (isSmall) bytes.writeInt32LE(value, 1);
    else {
      bytes[1] = 8;
      bytes.writeBigInt64LE(BigInt(value), 2);
    }
    this.parts.push(bytes);
  }

  #ints(values: readonly number[]): void {
    this.raw('(');
    for (const value of values) this.#int(value);
    this.raw('t');
  }

  #tensor(weight: Weight): void {
    const { name: entry, dtype, shape } = weight;
    const { file } = this;
    const storage = storages[dtype];
    if (!storage) {
      throw new DetailFlowError('dtype', `is ${dtype}; checkpoints are written in f32, f16, bf16 or i64`, {
        ...{ file, entry },
      });
    }
    const { axes } = fileLimits.torch;
    if (shape.length > axes) {
      throw new DetailFlowError('limit', `has ${shape.length} axes; at most ${axes} are read`, {
        file,
        entry,
      });
    }
    this.raw('ctorch._utils\n_rebuild_tensor_v2\n((');
    this.#text('storage');
    this.raw(`ctorch\n${storage}\n`);
    this.#text(String(this.tensors.length));
    this.#text('cpu');
    this.#int(shape.reduce((a, b) => a * b, 1));
    this.raw('tQ');
    this.#int(0);
    this.#ints(shape);
    this.#ints(shape.map((_, i) => shape.slice(i + 1).reduce((a, b) => a * b, 1)));
    this.raw('\x89ccollections\nOrderedDict\n)RtR');
    this.tensors.push(weight);
  }
}
