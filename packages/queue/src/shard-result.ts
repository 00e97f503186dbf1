import { createHash } from 'node:crypto';
import { type ByteSource, DetailFlowError } from '@detailflow/core';
import { type NpyArray, openNpz, writeNpz } from '@detailflow/data';
import { rangeName, type ShardRange } from './shard-range';

/** An array of a shard: row i is of piece first + i. */
export interface ShardArray {
  readonly data: Float32Array | Int32Array | Uint8Array;
  readonly shape: readonly number[];
}

/** What a worker computed. */
export interface ShardResult {
  readonly arrays: Readonly<Record<string, ShardArray>>;
  /** Kind of machine and device: figures of different ones may differ in their last digits. */
  readonly machine: string;
  /** How long it took. */
  readonly seconds: number;
  /** What else is to be told, such as images that could not be read. */
  readonly notes?: readonly string[];
}

interface Record_ {
  readonly job: string;
  readonly range: string;
  readonly machine: string;
  readonly seconds: number;
  readonly notes: readonly string[];
  /** Of names, shapes and values. */
  readonly sha256: string;
}

/** The entry that says what a file belongs to. */
const RECORD = 'detailflow';
const MOST_NOTES = 10_000;

/** A result as a .npz file that says which shard of which job it is, and has a hash. */
export function encodeResult(job: string, range: ShardRange, result: ShardResult): Uint8Array {
  const { arrays, machine, seconds, notes = [] } = result;
  const wrong = Object.entries(arrays).find(
    ([name, { shape }]) => name === RECORD || shape[0] !== range.count,
  );
  if (wrong) {
    throw new DetailFlowError(
      'shape',
      `the array "${wrong[0]}" of shard ${rangeName(range)} has shape [${wrong[1].shape}]; there must be ${range.count} rows`,
    );
  }
  const record: Record_ = { job, range: rangeName(range), machine, seconds, notes, sha256: digestOf(arrays) };
  const data = new TextEncoder().encode(JSON.stringify(record));
  return writeNpz({ ...arrays, [RECORD]: { data, shape: [data.length] } });
}

/**
 * Reads a result and checks that it is the one asked for, and whole.
 * @throws DetailFlowError `format` when it is damaged, `config` when it is of another job or shard
 */
export async function decodeResult(source: ByteSource, job: string, range: ShardRange): Promise<ShardResult> {
  const file = source.name;
  const damaged = (cause?: unknown) =>
    new DetailFlowError('format', 'is damaged; remove it to have it made anew', { file, cause });
  let record: Record_;
  const arrays: Record<string, ShardArray> = {};
  try {
    const npz = await openNpz(source);
    const data = (await npz.get(RECORD)?.read())?.data;
    record = JSON.parse(new TextDecoder().decode(data as Uint8Array));
    for (const [name, array] of npz) if (name !== RECORD) arrays[name] = typed(await array.read(), file);
  } catch (cause) {
    if (DetailFlowError.isInstance(cause) && cause.code === 'io') throw cause;
    throw damaged(cause);
  }
  if (record?.job !== job || record.range !== rangeName(range)) {
    throw new DetailFlowError(
      'config',
      `is shard ${String(record?.range).slice(0, 30)} of job ${String(record?.job).slice(0, 12)}, not ${rangeName(range)} of ${job.slice(0, 12)}; remove it, or give another results folder`,
      { file },
    );
  }
  const { machine, seconds, notes, sha256 } = record;
  const isWhole =
    typeof machine === 'string' &&
    typeof seconds === 'number' &&
    Array.isArray(notes) &&
    notes.length <= MOST_NOTES &&
    sha256 === digestOf(arrays) &&
    Object.values(arrays).every(({ shape }) => shape[0] === range.count);
  if (!isWhole) throw damaged();
  return { arrays, machine, seconds, notes: notes.map(String) };
}

function typed({ data, shape }: NpyArray, file: string): ShardArray {
  if (data instanceof Float32Array || data instanceof Int32Array || data instanceof Uint8Array) {
    return { data, shape };
  }
  throw new DetailFlowError('dtype', 'holds an array that no worker writes', { file });
}

function digestOf(arrays: ShardResult['arrays']): string {
  const hash = createHash('sha256');
  for (const name of Object.keys(arrays).sort()) {
    const { data, shape } = arrays[name];
    hash.update(`${name} ${data.constructor.name} ${shape.join()}\n`);
    hash.update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  }
  return hash.digest('hex');
}
