import { parseArgs } from 'node:util';
import { suggestion } from './closest';
import { type Command, optionsOf, UsageError } from './command';

export interface Arguments {
  readonly values: Readonly<Record<string, string | boolean | undefined>>;
  readonly positionals: readonly string[];
}

/**
 * The options and arguments of a command.
 * @throws UsageError naming the option that is unknown, given twice, or lacks its value
 */
export function parseArguments(command: Command, args: readonly string[]): Arguments {
  const options = optionsOf(command);
  const names = Object.keys(options);
  const config = Object.entries(options).map(([name, { type, short }]) => [
    name,
    short === undefined ? { type } : { type, short },
  ]);
  const { tokens } = parseArgs({
    args: [...args],
    options: Object.fromEntries(config),
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  const values: Record<string, string | boolean> = {};
  const positionals: string[] = [];
  for (const token of tokens) {
    if (token.kind === 'positional') positionals.push(token.value);
    if (token.kind !== 'option') continue;
    const { name, value, inlineValue } = token;
    const written = args[token.index];
    if (!Object.hasOwn(options, name) || (!written.startsWith('--') && written.length > 2)) {
      const [given] = written.replace(/^-+/, '').split('=');
      throw new UsageError(
        `there is no option ${written.split('=')[0]}${suggestion(given, names, '--')}` +
          (written.startsWith('--') ? '' : ' (a file whose name begins with "-" is written ./-name)'),
      );
    }
    const { type, repeatable, isSecret } = options[name];
    if (type === 'boolean') {
      if (value !== undefined) throw new UsageError(`--${name} takes no value, and "${value}" is given`);
      values[name] = true;
      continue;
    }
    if (value === undefined) throw new UsageError(`--${name} lacks its value`);
    if (!inlineValue && /^-[^\d.]/.test(value)) {
      throw new UsageError(
        `--${name} lacks its value (one that begins with "-" is written --${name}=${isSecret ? '...' : value})`,
      );
    }
    const before = values[name];
    if (before !== undefined && !repeatable) {
      throw new UsageError(`--${name} is given twice${isSecret ? '' : `: "${before}" and "${value}"`}`);
    }
    values[name] = before === undefined ? value : `${before},${value}`;
  }
  return { values, positionals };
}
