import { type Invocation, UsageError } from './command';

/** Typed access to the options of an invocation. Every method throws UsageError naming the option. */
export class Values {
  readonly #values: Invocation['values'];

  constructor({ values }: Invocation) {
    this.#values = values;
  }

  flag(name: string): boolean {
    return this.#values[name] === true;
  }

  text(name: string): string | undefined {
    const value = this.#values[name];
    if (value === '') throw new UsageError(`--${name} is empty`);
    return value as string | undefined;
  }

  required(name: string): string {
    const value = this.text(name);
    if (value === undefined) throw new UsageError(`--${name} is missing`);
    return value;
  }

  number(name: string, range: Range = {}): number | undefined {
    const text = this.text(name);
    if (text === undefined) return undefined;
    const value = Number(text);
    if (text.trim() === '' || !Number.isFinite(value))
      throw new UsageError(`--${name} "${text}" is no number`);
    checkRange(name, value, 'number', range);
    return value;
  }

  /** From 0 unless `range` says otherwise. */
  whole(name: string, range: Range = {}): number | undefined {
    const value = this.number(name);
    if (value === undefined) return undefined;
    checkRange(name, value, 'whole number', { least: 0, ...range }, Number.isSafeInteger(value));
    return value;
  }

  /** One of several words. */
  choice<T extends string>(name: string, words: readonly T[]): T | undefined {
    const value = this.text(name);
    if (value !== undefined && !words.includes(value as T)) {
      throw new UsageError(`--${name} "${value}": give one of ${words.join(', ')}`);
    }
    return value as T | undefined;
  }

  /** Whole numbers: "3", "3,7" or "0-9", also mixed. */
  list(name: string): number[] | undefined {
    const text = this.text(name);
    return text === undefined ? undefined : parseList(text, `--${name}`);
  }
}

/** Which numbers an option takes; bounds are included. */
interface Range {
  readonly least?: number;
  readonly most?: number;
}

function checkRange(name: string, value: number, kind: string, { least, most }: Range, fits = true): void {
  if (fits && value >= (least ?? value) && value <= (most ?? value)) return;
  const bounds = [least !== undefined && `from ${least}`, most !== undefined && `to ${most}`];
  throw new UsageError(`--${name} ${value}: give a ${[kind, ...bounds.filter(Boolean)].join(' ')}`);
}

const LONGEST_LIST = 100_000;

/** "3", "3,7", "0-9" -> numbers in the order given. */
export function parseList(text: string, what: string): number[] {
  const numbers: number[] = [];
  for (const part of text.split(',')) {
    const match = /^\s*(\d+)(?:\s*-\s*(\d+))?\s*$/.exec(part);
    if (!match) throw new UsageError(`${what} "${text}": give numbers such as 3, 3,7 or 0-9`);
    const [from, to] = [Number(match[1]), Number(match[2] ?? match[1])];
    if (to < from || to - from >= LONGEST_LIST)
      throw new UsageError(`${what} "${text}": ${part} is no range`);
    for (let n = from; n <= to; n++) numbers.push(n);
  }
  return numbers;
}
