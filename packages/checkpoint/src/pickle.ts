import { DetailFlowError } from '@detailflow/core';
import { PickleBytes } from './pickle-bytes';
import { readLiteral } from './pickle-literals';
import { PickleStack } from './pickle-stack';
import {
  describePickle,
  type PickleDict,
  PickleGlobal,
  PickleObject,
  PickleRecord,
  type PickleRules,
  type PickleValue,
} from './pickle-value';

const maxSteps = 5_000_000;
const maxObjects = 1_000_000;
const maxMemo = 1_000_000;
const maxStack = 200_000;
/** Values that calls and states pass on: few bytes may hand over one long list again and again. */
const maxPassed = 2_000_000;
/** Different names; the longest is shorter than any message. */
const maxGlobals = 10_000;
const maxNameLength = 1000;
/** Calls that a known name could make nothing of: each keeps its error. */
const maxFaults = 20_000;

/**
 * Interprets a pickle of protocol 0 to 5 as data. Nothing of it is ever executed: names inside `rules.globals` stand for
 * functions of this library, and what calls any other name stays a {@link PickleRecord} of that call.
 * @throws DetailFlowError `format` for what Python could not read either, `limit` for pickles with too many objects
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

class Unpickler<T> {
  private readonly input: PickleBytes;
  private objects = 0;
  private passed = 0;
  private readonly stack: PickleStack<PickleValue<T>>;
  private readonly memo = new Map<number, PickleValue<T>>();
  /** Names seen so far, by module. */
  private readonly names = new Map<string, Map<string, PickleGlobal<T>>>();
  private nameCount = 0;
  private faults = 0;

  constructor(
    bytes: Uint8Array,
    private readonly rules: PickleRules<T>,
  ) {
    this.input = new PickleBytes(bytes, (reason, cause) => this.fail(reason, cause));
    this.stack = new PickleStack((reason) => this.fail(reason));
  }

  run(): { value: PickleValue<T>; end: number } {
    this.input.skipProtocol();
    for (let steps = 0; steps < maxSteps; steps++) {
      const start = this.input.at;
      const opcode = this.input.byte();
      if (opcode === 0x2e) {
        const value = this.stack.pop();
        if (this.stack.length > 0) throw this.fail('values are left over at its end');
        return { value, end: this.input.at };
      }
      this.step(opcode, start);
      if (this.stack.length > maxStack) throw this.tooMuch('nested or pending values', maxStack);
    }
    throw this.tooMuch('opcodes', maxSteps);
  }

  private step(opcode: number, start: number): void {
    const literal = readLiteral(opcode, this.input);
    if (literal !== undefined) {
      this.stack.push(literal);
      return;
    }
    switch (opcode) {
      case 0x28: // MARK
        this.stack.pushMark();
        return;
      case 0x30: // POP
        this.stack.drop();
        return;
      case 0x31: // POP_MARK
        this.stack.toMark();
        return;
      case 0x32: // DUP
        this.stack.push(this.stack.top());
        return;
      case 0x7d: // EMPTY_DICT
        this.stack.push(this.created(new Map()));
        return;
      case 0x64: // DICT
        this.stack.push(this.fill(this.created(new Map()), this.stack.toMark()));
        return;
      case 0x73: {
        // SETITEM
        const [value, key] = [this.stack.pop(), this.stack.pop()];
        this.fill(this.dict(), [key, value]);
        return;
      }
      case 0x75: {
        // SETITEMS
        const items = this.stack.toMark();
        this.fill(this.dict(), items);
        return;
      }
      case 0x5d: // EMPTY_LIST
        this.stack.push(this.created([]));
        return;
      case 0x6c: // LIST
        this.stack.push(this.created(this.stack.toMark()));
        return;
      case 0x61: {
        // APPEND
        const item = this.stack.pop();
        this.list().push(item);
        return;
      }
      case 0x65: {
        // APPENDS
        const items = this.stack.toMark();
        const list = this.list();
        for (const item of items) list.push(item);
        return;
      }
      case 0x8f: // EMPTY_SET
        this.stack.push(this.created(new Set()));
        return;
      case 0x90: {
        // ADDITEMS
        const items = this.stack.toMark();
        this.addItems(items);
        return;
      }
      case 0x91: // FROZENSET
        this.stack.push(this.created(new Set(this.stack.toMark())));
        return;
      case 0x29: // EMPTY_TUPLE
        this.stack.push(this.tuple([]));
        return;
      case 0x74: // TUPLE
        this.stack.push(this.tuple(this.stack.toMark()));
        return;
      case 0x85: // TUPLE1
      case 0x86: // TUPLE2
      case 0x87: {
        // TUPLE3
        const items: PickleValue<T>[] = [];
        for (let i = 0x84; i < opcode; i++) items.unshift(this.stack.pop());
        this.stack.push(this.tuple(items));
        return;
      }
      case 0x70: // PUT
        this.remember(this.memoIndex());
        return;
      case 0x67: // GET
        this.stack.push(this.recall(this.memoIndex()));
        return;
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
        this.stack.push(this.global(this.input.line(maxNameLength), this.input.line(maxNameLength)));
        return;
      case 0x93: {
        // STACK_GLOBAL
        const [name, module] = [this.stack.pop(), this.stack.pop()];
        if (typeof name !== 'string' || typeof module !== 'string')
          throw this.fail('the name of a global is no string');
        this.stack.push(this.global(module, name));
        return;
      }
      case 0x52: // REDUCE
      case 0x81: {
        // NEWOBJ
        const [args, callee] = [this.stack.pop(), this.stack.pop()];
        this.stack.push(this.call(callee, args));
        return;
      }
      case 0x92: {
        // NEWOBJ_EX
        const [named, args, callee] = [this.stack.pop(), this.stack.pop(), this.stack.pop()];
        if (!(named instanceof Map)) throw this.fail('the named arguments of a call are no dict');
        this.stack.push(named.size === 0 ? this.call(callee, args) : this.record(callee, [args, named]));
        return;
      }
      case 0x69: {
        // INST
        const callee = this.global(this.input.line(maxNameLength), this.input.line(maxNameLength));
        this.stack.push(this.call(callee, this.stack.toMark()));
        return;
      }
      case 0x6f: {
        // OBJ
        const [callee, ...args] = this.stack.toMark();
        this.stack.push(this.call(callee, args));
        return;
      }
      case 0x62: {
        // BUILD
        const state = this.stack.pop();
        this.build(this.stack.top(), state);
        return;
      }
      case 0x51: // BINPERSID
        this.stack.push(this.persistent(this.stack.pop()));
        return;
      case 0x50: // PERSID
        this.stack.push(this.persistent(this.input.line(maxNameLength)));
        return;
      default: {
        const code = opcode.toString(16).padStart(2, '0');
        throw this.fail(`opcode 0x${code} at byte ${start} is not one that a saved file has`);
      }
    }
  }

  private global(module: string, name: string): PickleGlobal<T> {
    const names = this.names.get(module) ?? new Map<string, PickleGlobal<T>>();
    const known = names.get(name);
    if (known !== undefined) return known;
    if (module.length > maxNameLength || name.length > maxNameLength)
      throw this.fail('a name in it is endless');
    if (++this.nameCount > maxGlobals) throw this.tooMuch('different names', maxGlobals);
    this.names.set(module, names);
    const full = `${module}.${name}`;
    const found = this.rules.globals.get(full) ?? new PickleGlobal<T>(full);
    names.set(name, found);
    return found;
  }

  private call(callee: PickleValue<T>, args: PickleValue<T>): PickleValue<T> {
    if (!(callee instanceof PickleGlobal) || callee.make === undefined) return this.record(callee, args);
    if (!Array.isArray(args)) throw this.fail(`the arguments of ${callee.name} are no tuple`);
    this.passAll(args, 2);
    const { name, make } = callee;
    return this.created(this.orRecord(name, args, () => make(args)));
  }

  /** A call that is not understood, as it was written. */
  private record(callee: PickleValue<T>, args: PickleValue<T>): PickleRecord<T> {
    if (callee instanceof PickleGlobal) return this.created(new PickleRecord(callee.name, args));
    if (callee instanceof PickleRecord)
      return this.created(new PickleRecord(callee.type, args, callee.fault));
    throw this.fail(`it calls ${describePickle(callee) ?? 'a tensor'}, which is no function`);
  }

  private persistent(id: PickleValue<T>): PickleValue<T> {
    return this.created(this.orRecord('persistent id', id, () => this.rules.persistent(id)));
  }

  /** What `make` makes; a record with the reason where it cannot. */
  private orRecord(type: string, args: PickleValue<T>, make: () => PickleValue<T>): PickleValue<T> {
    try {
      return make();
    } catch (fault) {
      if (!DetailFlowError.isInstance(fault)) throw fault;
      if (++this.faults > maxFaults) throw this.tooMuch('values that cannot be read', maxFaults);
      return new PickleRecord(type, args, fault);
    }
  }

  /** Sets attributes. Those of dicts (`_metadata` of a state dict) and of numbers (ScalarFloat's format) are dropped. */
  private build(target: PickleValue<T>, state: PickleValue<T>): void {
    if (target instanceof PickleRecord) {
      target.state = state;
      return;
    }
    const parts = Array.isArray(state) && state.length === 2 ? state : [state];
    if (!parts.every((part) => part === null || part instanceof Map))
      throw this.fail('an object has a strange state');
    if (target instanceof Map || target instanceof Set || typeof target === 'number') return;
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
      if (key instanceof Map || (Array.isArray(key) && !Object.isFrozen(key)))
        throw this.fail('a dict has a list or dict for a key');
      dict.set(key, items[i + 1]);
    }
    return dict;
  }

  private created<V>(value: V): V {
    if (++this.objects > maxObjects) throw this.tooMuch('objects', maxObjects);
    return value;
  }

  /** Counts what a function may walk through: its arguments, and what lies in them. */
  private passAll(values: readonly PickleValue<T>[], levels: number): void {
    this.pass(values.length);
    for (const value of values) {
      if (value instanceof Map) this.pass(value.size);
      else if (Array.isArray(value) && levels > 0) this.passAll(value, levels - 1);
    }
  }

  private pass(count: number): void {
    this.passed += count;
    if (this.passed > maxPassed) throw this.tooMuch('values passed to calls', maxPassed);
  }

  private tuple(items: PickleValue<T>[]): PickleValue<T>[] {
    return Object.freeze(this.created(items)) as PickleValue<T>[];
  }

  private dict(): PickleDict<T> {
    const target = this.stack.top();
    if (target instanceof PickleRecord) return target.openEntries();
    if (!(target instanceof Map)) throw this.fail('it sets items of something that is no dict');
    return target;
  }

  private list(): PickleValue<T>[] {
    const target = this.stack.top();
    if (target instanceof PickleRecord) return target.openItems();
    if (!Array.isArray(target) || Object.isFrozen(target))
      throw this.fail('it appends to something that is no list');
    return target;
  }

  private addItems(items: readonly PickleValue<T>[]): void {
    const target = this.stack.top();
    if (!(target instanceof Set || target instanceof PickleRecord))
      throw this.fail('it adds to something that is no set');
    for (const item of items) {
      if (target instanceof Set) target.add(item);
      else target.openItems().push(item);
    }
  }

  private memoIndex(): number {
    const text = this.input.line(maxNameLength);
    if (/^\d{1,10}$/.test(text)) return Number(text);
    throw this.fail('the number of a remembered value is none');
  }

  private remember(index: number): void {
    this.memo.set(index, this.stack.top());
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
