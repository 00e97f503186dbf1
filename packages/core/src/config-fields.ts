import { checkOptions } from './check-options';
import { DetailFlowError } from './errors';

/** Any extent of a model: far beyond what exists, small enough to multiply safely. */
const LARGEST_COUNT = 1 << 24;

/**
 * Typed access to the fields of a configuration read from a file. Every method throws DetailFlowError `config`, or
 * `unsupported`, naming the file and the field.
 */
export class ConfigFields {
  readonly #record: Readonly<Record<string, unknown>>;
  readonly #file?: string;
  readonly #prefix: string;

  /** @param options.prefix stands before the field in messages, for an object inside another */
  constructor(value: unknown, options: { file?: string; prefix?: string } = {}) {
    this.#file = options.file;
    this.#prefix = options.prefix === undefined ? '' : `${options.prefix}.`;
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw new DetailFlowError('config', 'is not an object of settings', {
        file: options.file,
        entry: options.prefix,
      });
    }
    this.#record = value as Record<string, unknown>;
  }

  /** The value as it stands; undefined also for null, which official files write for "not set". */
  raw(name: string): unknown {
    return (Object.hasOwn(this.#record, name) ? this.#record[name] : undefined) ?? undefined;
  }

  /** A whole number from `least`, which is 1. */
  count(name: string, fallback?: number, least = 1): number {
    const value = this.raw(name) ?? fallback;
    if (Number.isInteger(value) && (value as number) >= least && (value as number) <= LARGEST_COUNT)
      return value as number;
    throw this.#wrong(name, value, `a whole number from ${least} to ${LARGEST_COUNT}`);
  }

  /** A number above 0. */
  positive(name: string, options: { fallback?: number; largest?: number } = {}): number {
    checkOptions('positive', options, { fallback: true, largest: true });
    const { fallback, largest = Number.MAX_VALUE } = options;
    const value = this.raw(name) ?? fallback;
    if (typeof value === 'number' && value > 0 && value <= largest) return value;
    const bound = largest === Number.MAX_VALUE ? '' : `, at most ${largest}`;
    throw this.#wrong(name, value, `a number above 0${bound}`);
  }

  /** A number within bounds, which are included. */
  number(
    name: string,
    { least, most, fallback }: { least: number; most: number; fallback?: number },
  ): number {
    const value = this.raw(name) ?? fallback;
    if (typeof value === 'number' && value >= least && value <= most) return value;
    throw this.#wrong(name, value, `a number from ${least} to ${most}`);
  }

  /** One of several words. */
  choice<T extends string>(name: string, words: readonly T[], fallback?: T): T {
    const value = this.raw(name) ?? fallback;
    if (words.includes(value as T)) return value as T;
    throw this.#wrong(name, value, `one of ${words.join(', ')}`);
  }

  /** Refuses fields that are not among those named: a misspelt setting would be ignored otherwise. */
  only(...names: string[]): void {
    const unknown = Object.keys(this.#record).find((name) => !names.includes(name));
    if (unknown === undefined) return;
    throw new DetailFlowError('config', `is no setting here; there are ${names.join(', ')}`, {
      file: this.#file,
      entry: `${this.#prefix}${unknown}`,
    });
  }

  /** True or false. @throws DetailFlowError `config` for anything else */
  flag(name: string, fallback?: boolean): boolean {
    const value = this.raw(name) ?? fallback;
    if (typeof value === 'boolean') return value;
    throw this.#wrong(name, value, 'true or false');
  }

  /** Refuses any other value than the one that is implemented; the field may be missing. */
  expect(name: string, only: string | number | boolean): void {
    const value = this.raw(name);
    if (value === undefined || value === only) return;
    throw new DetailFlowError('unsupported', `is ${show(value)}; only ${only} can be read`, {
      file: this.#file,
      entry: `${this.#prefix}${name}`,
    });
  }

  #wrong(name: string, value: unknown, must: string): DetailFlowError {
    return new DetailFlowError('config', `is ${show(value)}; must be ${must}`, {
      file: this.#file,
      entry: `${this.#prefix}${name}`,
    });
  }
}

const show = (value: unknown): string =>
  typeof value === 'number' ? `${value}` : (JSON.stringify(value) ?? 'missing');
