#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { DetailFlowError } from '@detailflow/core';
import { suggestion } from './closest';
import { type Command, helpText, InterruptedError, UsageError } from './command';
import { inFlags } from './flag-messages';
import { interruptions, wasInterrupted } from './interruption';
import { parseArguments } from './parse-arguments';
import { createProgress } from './progress';
import { withoutPasswords } from './without-passwords';

/** Each is read when it is asked for: a command does not wait for what only others need. */
const commands: Readonly<Record<string, () => Promise<Command>>> = {
  generate: async () => (await import('./generate-command')).generateCommand,
  encode: async () => (await import('./encode-command')).encodeCommand,
  decode: async () => (await import('./decode-command')).decodeCommand,
  reconstruct: async () => (await import('./reconstruct-command')).reconstructCommand,
  vary: async () => (await import('./vary-command')).varyCommand,
  inspect: async () => (await import('./inspect-command')).inspectCommand,
  models: async () => (await import('./models-command')).modelsCommand,
  convert: async () => (await import('./convert-command')).convertCommand,
  export: async () => (await import('./export-command')).exportCommand,
  push: async () => (await import('./push-command')).pushCommand,
  train: async () => (await import('./train-command')).trainCommand,
  eval: async () => (await import('./eval-command')).evalCommand,
  serve: async () => (await import('./serve-command')).serveCommand,
  worker: async () => (await import('./worker-command')).workerCommand,
  queue: async () => (await import('./queue-command')).queueCommand,
};

async function overview(): Promise<string> {
  const all = await Promise.all(Object.values(commands).map((load) => load()));
  return [
    'Coarse-to-fine autoregressive image generation.',
    '',
    'Usage: detailflow COMMAND [OPTIONS]',
    '',
    'Commands:',
    ...all.map(({ name, summary }) => `  ${name.padEnd(12)} ${summary}`),
    '',
    'detailflow COMMAND --help (or -h, or help COMMAND) tells more; --version (-v) says which this is.',
    'Exit code: 0 done, 1 failed, 2 wrong usage, 130 stopped by Ctrl-C, 143 by SIGTERM.',
    '',
  ].join('\n');
}

process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') return; // a reader that has seen enough, such as `head`, is no fault
  process.stderr.write(`detailflow: what it says cannot be written: ${error.message}\n`);
  process.exit(1);
});
process.exitCode = await main(process.argv.slice(2));

async function main(argv: readonly string[]): Promise<number> {
  const [first, ...rest] = argv;
  if (first === undefined) {
    process.stdout.write(await overview());
    return 2;
  }
  if (first === '--version' || first === '-v') {
    const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
    process.stdout.write(`${version}\n`);
    return 0;
  }
  const asksForHelp = ['help', '--help', '-h'].includes(first);
  if (asksForHelp && (rest.length === 0 || rest[0].startsWith('-'))) {
    process.stdout.write(await overview());
    return 0;
  }
  const name = asksForHelp ? rest[0] : first;
  const load = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (!load) {
    const near = suggestion(name, [...Object.keys(commands), ...(asksForHelp ? [] : ['help'])]);
    process.stderr.write(printable(`detailflow: there is no command "${name}"${near}\n`));
    process.stderr.write(near === '' ? `\n${await overview()}` : 'See: detailflow --help\n');
    return 2;
  }
  const command = await load();
  if (asksForHelp) {
    process.stdout.write(helpText(command));
    return 0;
  }
  const interruption = interruptions();
  const { signal } = interruption;
  try {
    return await runCommand(command, rest, signal);
  } catch (thrown) {
    if (wasInterrupted(thrown, signal)) {
      const lines = thrown instanceof InterruptedError ? thrown.lines : [];
      process.stderr.write([`detailflow ${name}: stopped`, ...lines, ''].map(printable).join('\n'));
      return interruption.exitCode;
    }
    const error = inFlags(thrown, command);
    if (error instanceof UsageError) {
      process.stderr.write(
        printable(`detailflow ${name}: ${error.message}\nSee: detailflow ${name} --help\n`),
      );
      return 2;
    }
    process.stderr.write(`detailflow ${name}: ${printable(describe(error))}\n`);
    return 1;
  } finally {
    interruption.end();
  }
}

async function runCommand(command: Command, args: string[], signal: AbortSignal): Promise<number> {
  const given = parseArguments(command, args);
  if (given.values.help) {
    process.stdout.write(helpText(command));
    return 0;
  }
  const progress = await createProgress({ quiet: given.values.json === true });
  const { localSources } = await import('./local-sources');
  const { values, positionals } = await localSources(command, given, { signal, progress });
  const report = await command.run({ values, positionals, given: given.values, signal, progress });
  process.stdout.write(
    values.json
      ? `${JSON.stringify(report.json)}\n`
      : report.lines.map((line) => `${printable(line)}\n`).join(''),
  );
  return 0;
}

/** What went wrong; the stack only where the fault is ours. */
function describe(error: unknown): string {
  if (DetailFlowError.isInstance(error)) return error.message;
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}

/** Without passwords of addresses, and the control characters that text from a model's files may hold for the terminal. */
function printable(text: string): string {
  return withoutPasswords(text).replace(
    /[^\P{Cc}\n\t]/gu,
    (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`,
  );
}
