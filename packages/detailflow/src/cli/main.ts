#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { DetailFlowError } from '@detailflow/core';
import { suggestion } from './closest';
import { type Command, helpText, InterruptedError, UsageError } from './command';
import { convertCommand } from './convert-command';
import { decodeCommand } from './decode-command';
import { encodeCommand } from './encode-command';
import { evalCommand } from './eval-command';
import { exportCommand } from './export-command';
import { inFlags } from './flag-messages';
import { generateCommand } from './generate-command';
import { inspectCommand } from './inspect-command';
import { interruptions, wasInterrupted } from './interruption';
import { localSources } from './local-sources';
import { modelsCommand } from './models-command';
import { parseArguments } from './parse-arguments';
import { createProgress } from './progress';
import { pushCommand } from './push-command';
import { queueCommand } from './queue-command';
import { reconstructCommand } from './reconstruct-command';
import { serveCommand } from './serve-command';
import { trainCommand } from './train-command';
import { varyCommand } from './vary-command';
import { withoutPasswords } from './without-passwords';
import { workerCommand } from './worker-command';

const commands: readonly Command[] = [
  generateCommand,
  encodeCommand,
  decodeCommand,
  reconstructCommand,
  varyCommand,
  inspectCommand,
  modelsCommand,
  convertCommand,
  exportCommand,
  pushCommand,
  trainCommand,
  evalCommand,
  serveCommand,
  workerCommand,
  queueCommand,
];

const overview = [
  'Coarse-to-fine autoregressive image generation.',
  '',
  'Usage: detailflow COMMAND [OPTIONS]',
  '',
  'Commands:',
  ...commands.map(({ name, summary }) => `  ${name.padEnd(12)} ${summary}`),
  '',
  'detailflow COMMAND --help (or -h, or help COMMAND) tells more; --version (-v) says which this is.',
  'Exit code: 0 done, 1 failed, 2 wrong usage, 130 stopped by Ctrl-C, 143 by SIGTERM.',
  '',
].join('\n');

process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error; // a reader that has seen enough, such as `head`, is no fault
});
process.exitCode = await main(process.argv.slice(2));

async function main(argv: readonly string[]): Promise<number> {
  const [first, ...rest] = argv;
  if (first === undefined) {
    process.stdout.write(overview);
    return 2;
  }
  if (first === '--version' || first === '-v') {
    const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
    process.stdout.write(`${version}\n`);
    return 0;
  }
  const asksForHelp = ['help', '--help', '-h'].includes(first);
  if (asksForHelp && (rest.length === 0 || rest[0].startsWith('-'))) {
    process.stdout.write(overview);
    return 0;
  }
  const name = asksForHelp ? rest[0] : first;
  const command = commands.find((one) => one.name === name);
  if (!command) {
    const near = suggestion(name, [...commands.map((one) => one.name), ...(asksForHelp ? [] : ['help'])]);
    process.stderr.write(printable(`detailflow: there is no command "${name}"${near}\n`));
    process.stderr.write(near === '' ? `\n${overview}` : 'See: detailflow --help\n');
    return 2;
  }
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
  const progress = createProgress({ quiet: given.values.json === true });
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
