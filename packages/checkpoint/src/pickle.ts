import { DetailFlowError } from '@detailflow/core';
import { PickleBytes } from './pickle-bytes';

/**
 * A value of a pickle as plain data. Lists and tuples are arrays (tuples are frozen), dicts of every kind are Maps.
 * `T` is what the caller's globals and persistent ids make.
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
  | PickleValue<T>[]
  | PickleDict<T>;

export type PickleDict<T> = Map<string | number | bigint | boolean | null, PickleValue<T>>;

/** An object that keeps its Python class's name and its attributes, and nothing of its behaviour. */
export class PickleObject<T> {
  readonly attributes = new Map<string, PickleValue<T>>();

  constructor(readonly type: string) {}
}

/** A name that a pickle may refer to. `make` stands for calling it: a plain function of data to data. */
export class PickleGlobal<T> {
  constructor(
    readonly name: string,
    readonly make?: (args: readonly PickleValue<T>[]) => PickleValue<T>,
  ) {}
}

export interface PickleRules<T> {
  readonly file: string;
  readonly entry: string;
  /** The only names a pickle may use, as 'module.name'. */
  readonly globals: ReadonlyMap<string, PickleGlobal<T>>;
  /** What a persistent id stands for. */
  readonly persistent: (id: PickleValue<T>) => PickleValue<T>;
}

const maxSteps = 5_000_000;
const maxObjects = 1_000_000;
const maxMemo = 1_000_000;
const maxStack = 200_000;
/** Values that calls and states pass on: few bytes may hand over one long list again and again. */
const maxPassed = 5_000_000;

/**
 * Interprets a pickle as data. Nothing of it is ever executed: names outside `rules.globals` are refused, and
 * those inside stand for functions of this library. Understands what protocols 2 to 4 need for dicts, lists,
 * tuples, numbers, strings, bytes and objects built from the names allowed.
 * @throws DetailFlowError `format` for anything else, `limit` for pickles with too many objects
 */
export function unpickle<T>(bytes: Uint8Array, rules: PickleRules<T>): PickleValue<T> {
  const { value, end } = unpickleFirst(bytes, rules);
  if (end === bytes.length) return value;
  const { file, entry } = rules;
  throw new DetailFlowError('format', 'the pickle is refused: bytes follow its end', { file, entry });
}

/** As {@link unpickle}, for a pickle that others follow: `end` is where the next one begins. */
export function unpickleFirst<T>(
  bytes: Uint8Array,
  rules: PickleRules<T>,
): { value: PickleValue<T>; end: number } {
  return new Unpickler(bytes, rules).run();
}

type MarkOr<T> = PickleValue<T> | typeof mark;
const mark = Symbol('mark');

class Unpickler<T> {
  private readonly input: PickleBytes;
  private objects = 0;
  private passed = 0;
  private readonly stack: MarkOr<T>[] = [];
  private readonly memo = new Map<number, PickleValue<T>>();

  constructor(
    bytes: Uint8Array,
    private readonly rules: PickleRules<T>,
  ) {
    this.input = new PickleBytes(bytes, (reason, cause) => this.fail(reason, cause));
  }

  run(): { value: PickleValue<T>; end: number } {
    const protocol = this.input.byte() === 0x80 ? this.input.byte() : -1;
    if (protocol < 2 || protocol > 5) throw this.fail('it does not start with a pickle protocol of 2 to 5');
    for (let steps = 0; steps < maxSteps; steps++) {
      const start = this.input.at;
      const opcode = this.input.byte();
      if (opcode === 0x2e) {
        const value = this.pop();
        if (this.stack.length > 0) throw this.fail('values are left over at its end');
        return { value, end: this.input.at };
      }
      this.step(opcode, start);
      if (this.stack.length > maxStack) throw this.tooMuch('nested or pending values', maxStack);
    }
    throw this.tooMuch('opcodes', maxSteps);
  }

  private step(opcode: number, start: number): void {
    switch (opcode) {
      case 0x28: // MARK
        this.stack.push(mark);
        return;
      case 0x30: // POP
        if (this.stack.pop() === undefined) throw this.fail('it takes a value from an empty stack');
        return;
      case 0x31: // POP_MARK
        this.toMark();
        return;
      case 0x32: // DUP
        this.stack.push(this.top());
        return;
      case 0x4e: // NONE
        this.stack.push(null);
        return;
      case 0x88: // NEWTRUE
        this.stack.push(true);
        return;
      case 0x89: // NEWFALSE
        this.stack.push(false);
        return;
      case 0x4a: // BININT
        this.stack.push(this.input.int32());
        return;
      case 0x4b: // BININT1
        this.stack.push(this.input.byte());
        return;
      case 0x4d: // BININT2
        this.stack.push(this.input.uint16());
        return;
      case 0x8a: // LONG1
        this.stack.push(this.input.integer(this.input.byte()));
        return;
      case 0x8b: // LONG4
        this.stack.push(this.input.integer(this.input.uint32()));
        return;
      case 0x47: // BINFLOAT
        this.stack.push(this.input.float64());
        return;
      case 0x58: // BINUNICODE
        this.stack.push(this.input.text(this.input.uint32()));
        return;
      case 0x8c: // SHORT_BINUNICODE
        this.stack.push(this.input.text(this.input.byte()));
        return;
      case 0x8d: // BINUNICODE8
        this.stack.push(this.input.text(this.input.uint64()));
        return;
      case 0x42: // BINBYTES
        this.stack.push(this.input.raw(this.input.uint32()).slice());
        return;
      case 0x43: // SHORT_BINBYTES
        this.stack.push(this.input.raw(this.input.byte()).slice());
        return;
      case 0x8e: // BINBYTES8
        this.stack.push(this.input.raw(this.input.uint64()).slice());
        return;
      case 0x7d: // EMPTY_DICT
        this.stack.push(this.created(new Map()));
        return;
      case 0x64: // DICT
        this.stack.push(this.fill(this.created(new Map()), this.toMark()));
        return;
      case 0x73: {
        // SETITEM
        const [value, key] = [this.pop(), this.pop()];
        this.fill(this.dict(), [key, value]);
        return;
      }
      case 0x75: {
        // SETITEMS
        const items = this.toMark();
        this.fill(this.dict(), items);
        return;
      }
      case 0x5d: // EMPTY_LIST
        this.stack.push(this.created([]));
        return;
      case 0x6c: // LIST
        this.stack.push(this.created(this.toMark()));
        return;
      case 0x61: {
        // APPEND
        const item = this.pop();
        this.list().push(item);
        return;
      }
      case 0x65: {
        // APPENDS
        const items = this.toMark();
        const list = this.list();
        for (const item of items) list.push(item);
        return;
      }
      case 0x29: // EMPTY_TUPLE
        this.stack.push(this.tuple([]));
        return;
      case 0x74: // TUPLE
        this.stack.push(this.tuple(this.toMark()));
        return;
      case 0x85: // TUPLE1
      case 0x86: // TUPLE2
      case 0x87: {
        // TUPLE3
        const items: PickleValue<T>[] = [];
        for (let i = 0x84; i < opcode; i++) items.unshift(this.pop());
        this.stack.push(this.tuple(items));
        return;
      }
      case 0x71: // BINPUT
        this.remember(this.input.byte());
        return;
      case 0x72: // LONG_BINPUT
        this.remember(this.input.uint32());
        return;
      case 0x94: // MEMOIZE
        this.remember(this.memo.size);
        return;
      case 0x68: // BINGET
        this.stack.push(this.recall(this.input.byte()));
        return;
      case 0x6a: // LONG_BINGET
        this.stack.push(this.recall(this.input.uint32()));
        return;
      case 0x95: // FRAME
        if (this.input.uint64() > this.input.left) throw this.fail('a frame is longer than the file');
        return;
      case 0x63: // GLOBAL
        this.stack.push(this.global(this.input.line(), this.input.line()));
        return;
      case 0x93: {
        // STACK_GLOBAL
        const [name, module] = [this.pop(), this.pop()];
        if (typeof name !== 'string' || typeof module !== 'string')
          throw this.fail('the name of a global is no string');
        this.stack.push(this.global(module, name));
        return;
      }
      case 0x52: // REDUCE
      case 0x81: {
        // NEWOBJ
        const [args, callee] = [this.pop(), this.pop()];
        this.stack.push(this.call(callee, args));
        return;
      }
      case 0x62: {
        // BUILD
        const state = this.pop();
        this.build(this.top(), state);
        return;
      }
      case 0x51: // BINPERSID
        this.stack.push(this.created(this.rules.persistent(this.pop())));
        return;
      default: {
        const code = opcode.toString(16).padStart(2, '0');
        throw this.fail(
          `opcode 0x${code} at byte ${start} is not one that torch.save writes for plain checkpoints`,
        );
      }
    }
  }

  private global(module: string, name: string): PickleGlobal<T> {
    const full = `${module}.${name}`;
    const found = this.rules.globals.get(full);
    if (found !== undefined) return found;
    throw this.fail(
      `it refers to ${JSON.stringify(full.slice(0, 200))}, which is not among the names a DetailFlow checkpoint needs; ` +
        'nothing of it was executed. If you trust the file, load it in Python and save only its tensors and plain values',
    );
  }

  private call(callee: PickleValue<T>, args: PickleValue<T>): PickleValue<T> {
    if (!(callee instanceof PickleGlobal)) throw this.fail('it calls something that is no global');
    if (callee.make === undefined) throw this.fail(`it calls ${callee.name}, which may only be named`);
    if (!Array.isArray(args)) throw this.fail(`the arguments of ${callee.name} are no tuple`);
    this.pass(args.length);
    for (const part of args) if (Array.isArray(part)) this.pass(part.length);
    return this.created(callee.make(args));
  }

  /** Sets attributes. Those of dicts (`_metadata` of a state dict) and of numbers (ScalarFloat's format) are dropped. */
  private build(target: PickleValue<T>, state: PickleValue<T>): void {
    const parts = Array.isArray(state) && state.length === 2 ? state : [state];
    if (!parts.every((part) => part === null || part instanceof Map))
      throw this.fail('an object has a strange state');
    if (target instanceof Map || typeof target === 'number') return;
    if (!(target instanceof PickleObject)) throw this.fail('it sets attributes of something that has none');
    for (const part of parts as (PickleDict<T> | null)[]) {
      this.pass(part?.size ?? 0);
      for (const [key, value] of part ?? []) {
        if (typeof key !== 'string')
          throw this.fail(`an attribute of ${target.type} has a name that is no string`);
        target.attributes.set(key, value);
      }
    }
  }

  private fill(dict: PickleDict<T>, items: readonly PickleValue<T>[]): PickleDict<T> {
    if (items.length % 2 !== 0) throw this.fail('a dict has a key without a value');
    for (let i = 0; i < items.length; i += 2) {
      const key = items[i];
      if (typeof key === 'object' && key !== null)
        throw this.fail('a dict has a key that is neither string nor number');
      dict.set(key as string, items[i + 1]);
    }
    return dict;
  }

  private created<V>(value: V): V {
    if (++this.objects > maxObjects) throw this.tooMuch('objects', maxObjects);
    return value;
  }

  private pass(count: number): void {
    this.passed += count;
    if (this.passed > maxPassed) throw this.tooMuch('values passed to calls', maxPassed);
  }

  private tuple(items: PickleValue<T>[]): PickleValue<T>[] {
    return Object.freeze(this.created(items)) as PickleValue<T>[];
  }

  private top(): PickleValue<T> {
    const value = this.stack[this.stack.length - 1];
    if (value === undefined || value === mark) throw this.fail('it takes a value from an empty stack');
    return value;
  }

  private pop(): PickleValue<T> {
    const value = this.top();
    this.stack.pop();
    return value;
  }

  private toMark(): PickleValue<T>[] {
    const at = this.stack.lastIndexOf(mark);
    if (at < 0) throw this.fail('it takes values up to a mark that is not there');
    const items = this.stack.splice(at);
    items.shift();
    return items as PickleValue<T>[];
  }

  private dict(): PickleDict<T> {
    const target = this.top();
    if (!(target instanceof Map)) throw this.fail('it sets items of something that is no dict');
    return target;
  }

  private list(): PickleValue<T>[] {
    const target = this.top();
    if (!Array.isArray(target) || Object.isFrozen(target))
      throw this.fail('it appends to something that is no list');
    return target;
  }

  private remember(index: number): void {
    this.memo.set(index, this.top());
    if (this.memo.size > maxMemo) throw this.tooMuch('remembered values', maxMemo);
  }

  private recall(index: number): PickleValue<T> {
    const value = this.memo.get(index);
    if (value === undefined) throw this.fail(`it recalls value ${index}, which it never stored`);
    return value;
  }

  private fail(reason: string, cause?: unknown): DetailFlowError {
    const { file, entry } = this.rules;
    return new DetailFlowError('format', `the pickle is refused: ${reason}`, { file, entry, cause });
  }

  private tooMuch(what: string, most: number): DetailFlowError {
    const { file, entry } = this.rules;
    return new DetailFlowError('limit', `the pickle has too many ${what}; at most ${most} are read`, {
      file,
      entry,
    });
  }
}
