import type { Progress } from './progress';

/** Wrong usage: exit code 2, with a hint at --help. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** A command was interrupted: what it kept, and how to go on. */
export class InterruptedError extends Error {
  override readonly name = 'InterruptedError';

  constructor(
    readonly lines: readonly string[],
    options: ErrorOptions,
  ) {
    super(lines.join('\n'), options);
  }
}

/** An option of a command, for parsing and for --help. */
export interface Option {
  readonly type: 'string' | 'boolean';
  /** What stands for the value in --help: DIR, N, ... */
  readonly value?: string;
  readonly help: string;
  /** One letter: `-h`. */
  readonly short?: string;
  /** Given several times, the values are joined by commas; other options are refused the second time. */
  readonly repeatable?: boolean;
  /** May hold a password: no message quotes it. */
  readonly isSecret?: boolean;
  /** What it names may also lie on the hub or a web server: the files of a model, or files as they are. */
  readonly source?: 'model' | 'files';
}

export type Options = Readonly<Record<string, Option>>;

export interface Invocation {
  readonly values: Readonly<Record<string, string | boolean | undefined>>;
  readonly positionals: readonly string[];
  /** The options as they were written: addresses, where `values` have the files that were fetched from there. */
  readonly given: Invocation['values'];
  /** Aborted by Ctrl-C. */
  readonly signal: AbortSignal;
  readonly progress: Progress;
}

/** What a command reports: lines for people, and the same as data for `--json`. */
export interface Report {
  readonly lines: readonly string[];
  readonly json: Readonly<Record<string, unknown>>;
}

export interface Command {
  readonly name: string;
  readonly summary: string;
  /** Arguments as --help shows them. */
  readonly usage: string;
  readonly options: Options;
  readonly examples: readonly string[];
  /** Its one argument names a model. */
  readonly positionalModel?: boolean;
  run(invocation: Invocation): Promise<Report>;
}

const commonOptions: Options = {
  json: { type: 'boolean', help: 'print the result as JSON' },
  help: { type: 'boolean', short: 'h', help: 'show this help' },
};

/** Options of commands that run a model. */
export const deviceOptions: Options = {
  device: { type: 'string', value: 'D', help: 'cpu (default), cuda, webgpu, or auto' },
  threads: { type: 'string', value: 'N', help: 'threads of the CPU device (default: all cores)' },
};

/** Every option that a command takes. */
export const optionsOf = (command: Command): Options => ({ ...command.options, ...commonOptions });

export function helpText(command: Command): string {
  const all = Object.entries(optionsOf(command));
  const names = all.map(
    ([name, { value, short }]) => `--${name}${value ? ` ${value}` : ''}${short ? `, -${short}` : ''}`,
  );
  const width = Math.max(...names.map((name) => name.length));
  return [
    command.summary,
    '',
    `Usage: detailflow ${command.name} ${command.usage}`,
    '',
    'Options:',
    ...all.map(([, { help }], i) => `  ${names[i].padEnd(width)}  ${help}`),
    '',
    'Examples:',
    ...command.examples.map((example) => `  detailflow ${example}`),
    '',
  ].join('\n');
}
