import type { DetailFlowError } from '@detailflow/core';

/**
 * A value of a pickle as plain data. Lists and tuples are arrays (tuples are frozen), dicts of every kind are Maps, and what
 * is of no kind known here is a {@link PickleRecord} or a {@link PickleGlobal}, which do nothing. `T` is what the caller's
 * globals and persistent ids make.
 */
export type PickleValue<T> =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | T
  | PickleGlobal<T>
  | PickleObject<T>
  | PickleRecord<T>
  | PickleValue<T>[]
  | PickleSet<T>
  | PickleDict<T>;

/** Keys that are objects (tuples, dates) are told apart by identity. */
export type PickleDict<T> = Map<PickleValue<T>, PickleValue<T>>;

/** A Python set. Members that are objects are told apart by identity. */
export type PickleSet<T> = Set<PickleValue<T>>;

/** An object that keeps its Python class's name and its attributes, and nothing of its behaviour. */
export class PickleObject<T> {
  readonly attributes = new Map<string, PickleValue<T>>();

  constructor(readonly type: string) {}
}

/** A name that a pickle refers to. `make` stands for calling it: a plain function of data to data. */
export class PickleGlobal<T> {
  constructor(
    readonly name: string,
    /** Missing for names that mean nothing here. It may throw DetailFlowError, for arguments it cannot take. */
    readonly make?: (args: readonly PickleValue<T>[]) => PickleValue<T>,
  ) {}
}

/**
 * Something that a pickle has Python make by calling a name, and that is of no kind known here. It is what was written down:
 * nothing was called, and it fails only where somebody needs what it would have been.
 */
export class PickleRecord<T> {
  /** What was set later: the object's state, items appended, entries set by key. */
  state?: PickleValue<T>;
  items?: PickleValue<T>[];
  entries?: PickleDict<T>;

  constructor(
    /** The name that was to be called, as 'module.name'. */
    readonly type: string,
    readonly args: PickleValue<T>,
    /** Why a name that is known could not make anything of its arguments. */
    readonly fault?: DetailFlowError,
  ) {}

  /** Where items that are appended go. */
  openItems(): PickleValue<T>[] {
    this.items ??= [];
    return this.items;
  }

  /** Where entries that are set go. */
  openEntries(): PickleDict<T> {
    this.entries ??= new Map();
    return this.entries;
  }
}

/** What a pickle's names and persistent ids stand for. */
export interface PickleRules<T> {
  readonly file: string;
  readonly entry: string;
  /** The names that mean something, as 'module.name'. All others become inert records. */
  readonly globals: ReadonlyMap<string, PickleGlobal<T>>;
  /** What a persistent id stands for. A DetailFlowError that it throws is kept in a record, until that is used. */
  readonly persistent: (id: PickleValue<T>) => PickleValue<T>;
}

/** What a value is, in a few words for messages. Undefined for values of the caller's own kinds. */
export function describePickle(value: unknown): string | undefined {
  if (value === undefined) return 'missing';
  if (value === null) return 'None';
  if (value instanceof PickleRecord) {
    if (value.fault) return reasonOf(value.fault);
    const first = Array.isArray(value.args) ? value.args[0] : undefined;
    const from = first instanceof PickleGlobal ? `, from ${short(first.name)}` : '';
    return `something that only ${short(value.type)} of Python could make${from}`;
  }
  if (value instanceof PickleGlobal) return `the name ${short(value.name)}`;
  if (value instanceof PickleObject) return `an object of ${short(value.type)}`;
  if (value instanceof Uint8Array) return 'bytes';
  if (value instanceof Map) return 'a dict';
  if (value instanceof Set) return 'a set';
  if (Array.isArray(value)) return Object.isFrozen(value) ? 'a tuple' : 'a list';
  if (typeof value === 'string') return `the text ${JSON.stringify(value.slice(0, 40))}`;
  return typeof value === 'object' ? undefined : `the ${typeof value} ${value}`.slice(0, 60);
}

const short = (name: string): string => JSON.stringify(name.slice(0, 200));

/** The message of an error without the place that it begins with. */
function reasonOf({ message, file, entry }: DetailFlowError): string {
  const place = [file, entry].filter((part) => part !== undefined).join(': ');
  return message.startsWith(`${place}: `) ? message.slice(place.length + 2) : message;
}
