import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { type NpyArray, readNpy, writeNpy } from 'detailflow';
import sharp from 'sharp';
import { afterAll, expect } from 'vitest';
import { type Outcome, runInHost } from './cli-host';

/** A path inside the repository. */
export const inRepository = (file: string): string => fileURLToPath(new URL(`../${file}`, import.meta.url));

/** The built command line. */
const program = inRepository('packages/detailflow/dist/cli.js');

/** Loaded before the program: says when it begins to listen for SIGINT. */
const tellWhenReady = `data:text/javascript,${encodeURIComponent(
  "process.on('newListener', (name) => name === 'SIGINT' && setImmediate(() => process.send('ready')));",
)}`;

/** What only a slow machine, or one of a single core, gets to see: progress, and that its cores are fewer than were asked for. */
const machineLines = /^([\d.]+\/[\d.]+ \w+( {2}.*)?|.*: there are no more cores)\n/gm;

/** --model of the reference model, --tokenizer and --ar of a golden configuration. */
export const fashion = ['--model', inRepository('tests/fixtures/fashion-ref')];
export const goldenTokenizer = (set: string) => [
  '--tokenizer',
  inRepository(`tests/fixtures/golden/${set}/tokenizer`),
];
export const goldenBoth = (set: string) => [
  ...goldenTokenizer(set),
  '--ar',
  inRepository(`tests/fixtures/golden/${set}/ar`),
];

export type { Outcome } from './cli-host';

/**
 * Runs the command line to its end: in a process that runs one after another, or, `fresh` or beside another run, in one of its
 * own, as users do. `interrupt` resolves when it is to get a signal, SIGINT unless `kind` is another;
 * it is told when the program listens for one. `deaf` closes its standard output before anything comes; `node` are options
 * of Node itself. What only small machines get to see is left out of `stderr`.
 */
export function cli(
  args: readonly string[],
  options: {
    interrupt?: (ready: Promise<void>) => Promise<void>;
    kind?: NodeJS.Signals;
    deaf?: boolean;
    node?: readonly string[];
    fresh?: boolean;
  } = {},
): Promise<Outcome> {
  const { interrupt, kind = 'SIGINT', deaf = false, node = [], fresh = false } = options;
  const needsOwn = fresh || interrupt || deaf || node.length > 0;
  const hosted = needsOwn ? undefined : runInHost(program, args);
  if (hosted)
    return hosted.then((outcome) => ({ ...outcome, stderr: outcome.stderr.replace(machineLines, '') }));
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ['--import', tellWhenReady, ...node, program, ...args], {
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    }) as ChildProcessByStdio<null, Readable, Readable>;
    const ready = new Promise<void>((listening) => child.once('message', () => listening()));
    if (deaf) child.stdout.destroy();
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (data) => (stdout += data));
    child.stderr.on('data', (data) => (stderr += data));
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, stdout, stderr: stderr.replace(machineLines, '') }));
    interrupt?.(ready).then(
      () => child.kill(kind),
      (error) => {
        child.kill('SIGKILL');
        reject(error);
      },
    );
  });
}

/** Runs a command that must succeed, with --json, and returns what it prints: JSON and nothing else. */
// biome-ignore lint/suspicious/noExplicitAny: each test knows the shape of what it asked for.
export async function cliJson(...args: string[]): Promise<any> {
  const { code, stdout, stderr } = await cli([...args, '--json']);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  return JSON.parse(stdout);
}

/** Runs a command that must fail with this exit code, say why in a few words, and print no result. */
export async function cliFailure(code: 1 | 2, ...args: string[]): Promise<string> {
  const outcome = await cli(args);
  expect(outcome).toMatchObject({ code, stdout: '' });
  expect(outcome.stderr).toMatch(/^detailflow[ :]/);
  expect(outcome.stderr).not.toMatch(/^\s+at /m);
  return outcome.stderr;
}

/** Paths in a folder of this test file's own, removed in the end. */
export function testFolder(): (name: string) => string {
  const folder = mkdtempSync(path.join(tmpdir(), 'detailflow-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  return (name) => path.join(folder, name);
}

export async function npy(file: string): Promise<NpyArray> {
  return readNpy(await readFile(file), { file });
}

/** Rows of a .npy file of codes. */
export async function codeRows(file: string): Promise<number[][]> {
  const { dtype, shape, data } = await npy(file);
  expect(dtype).toBe('int32');
  const [rows, width] = shape;
  return Array.from({ length: rows }, (_, i) => Array.from(data.slice(i * width, (i + 1) * width), Number));
}

export function saveNpy(
  file: string,
  data: Float32Array | Int32Array | Uint8Array,
  shape: readonly number[],
): string {
  writeFileSync(file, writeNpy({ data, shape }));
  return file;
}

/** RGB bytes of a picture. */
export async function pixels(file: string): Promise<{ data: Buffer; width: number; height: number }> {
  const { data, info } = await sharp(file).removeAlpha().raw().toBuffer({ resolveWithObject: true });
  return { data, width: info.width, height: info.height };
}

/** A square of a picture, as RGB bytes. */
export async function cut(file: string, left: number, top: number, side: number): Promise<Buffer> {
  return sharp(file).removeAlpha().extract({ left, top, width: side, height: side }).raw().toBuffer();
}

/** Names in a folder, hidden ones too; nothing where there is no folder. */
export async function names(folder: string): Promise<string[]> {
  return (await readdir(folder).catch(() => [])).sort();
}
