import { appendFile, readFile } from 'node:fs/promises';
import { ioError, writeFileAtomically } from '@detailflow/checkpoint/node';
import { maskedCrc } from './event-crc';

/** Figures of a step, by tag. */
export type Scalars = Readonly<Record<string, number>>;

/** Bytes before and after the data of a record: its length and that checksum; the checksum of the data. */
const [HEAD, TAIL] = [12, 4];

/**
 * A file of events as TensorBoard reads it: TFRecords of Event messages with simple values. Records of steps from `step` on, and what a
 * killed process left unfinished, are dropped at opening, since they will be made again.
 */
export class EventFile {
  private constructor(readonly path: string) {}

  static async open(path: string, step: number): Promise<EventFile> {
    const before = await readFile(path).catch(() => new Uint8Array(0));
    const kept = recordsOf(before).filter((record) => stepOf(record) < step);
    const version = record(event({ time: Date.now() / 1000, step: 0, version: 'brain.Event:2' }));
    const all = kept.length > 0 ? kept : [version];
    await writeFileAtomically(path, async (write) => {
      for (const one of all) await write(one);
    });
    return new EventFile(path);
  }

  /** @throws DetailFlowError `io` */
  async append(step: number, scalars: Scalars): Promise<void> {
    if (Object.keys(scalars).length === 0) return;
    await appendFile(this.path, record(event({ time: Date.now() / 1000, step, scalars }))).catch((cause) => {
      throw ioError('cannot be written', this.path, cause);
    });
  }
}

/** The figures in a line of a log: numbers, and those of objects under their names. */
export function scalarsOf(line: Readonly<Record<string, unknown>>, prefix = ''): Record<string, number> {
  const found: Record<string, number> = {};
  for (const [name, value] of Object.entries(line)) {
    if (prefix === '' && name === 'step') continue;
    if (typeof value === 'number' && Number.isFinite(value)) found[prefix + name] = value;
    else if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
      Object.assign(found, scalarsOf(value as Record<string, unknown>, `${prefix}${name}/`));
    }
  }
  return found;
}

/** Whole records with sound checksums, in order, up to the first that is none. */
function recordsOf(bytes: Uint8Array): Uint8Array[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const records: Uint8Array[] = [];
  for (let at = 0; at + HEAD + TAIL <= bytes.length; ) {
    const length = Number(view.getBigUint64(at, true));
    const end = at + HEAD + length + TAIL;
    if (end > bytes.length || view.getUint32(at + 8, true) !== maskedCrc(bytes.subarray(at, at + 8))) break;
    const data = bytes.subarray(at + HEAD, at + HEAD + length);
    if (view.getUint32(end - TAIL, true) !== maskedCrc(data)) break;
    records.push(bytes.slice(at, end));
    at = end;
  }
  return records;
}

/** The step of a record of ours: its data are a double with a tag of one byte, then the tag and number of the step. */
function stepOf(record: Uint8Array): number {
  let [value, factor] = [0, 1];
  for (let at = HEAD + 10; at < record.length; at++) {
    value += (record[at] & 127) * factor;
    if (record[at] < 128) break;
    factor *= 128;
  }
  return value;
}

function record(data: Uint8Array): Uint8Array {
  const out = new Uint8Array(HEAD + data.length + TAIL);
  const view = new DataView(out.buffer);
  view.setBigUint64(0, BigInt(data.length), true);
  view.setUint32(8, maskedCrc(out.subarray(0, 8)), true);
  out.set(data, HEAD);
  view.setUint32(HEAD + data.length, maskedCrc(data), true);
  return out;
}

/** An Event: wall_time = 1 (double), step = 2 (int64), file_version = 3, summary = 5 { value = 1 { tag = 1, simple_value = 2 } }. */
function event(of: { time: number; step: number; version?: string; scalars?: Scalars }): Uint8Array {
  const time = new Uint8Array(9);
  time[0] = 0x09;
  new DataView(time.buffer).setFloat64(1, of.time, true);
  const parts: Uint8Array[] = [time, Uint8Array.of(0x10, ...varint(of.step))];
  const { version, scalars } = of;
  if (version !== undefined) parts.push(field(0x1a, encoder.encode(version)));
  if (scalars)
    parts.push(
      field(
        0x2a,
        Buffer.concat(Object.entries(scalars).map(([tag, value]) => field(0x0a, summary(tag, value)))),
      ),
    );
  return Buffer.concat(parts);
}

function summary(tag: string, value: number): Uint8Array {
  const number = new Uint8Array(5);
  number[0] = 0x15;
  new DataView(number.buffer).setFloat32(1, value, true);
  return Buffer.concat([field(0x0a, encoder.encode(tag)), number]);
}

const encoder = new TextEncoder();

const field = (tag: number, bytes: Uint8Array): Uint8Array =>
  Buffer.concat([Uint8Array.of(tag, ...varint(bytes.length)), bytes]);

function varint(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) + 128);
  return [...bytes, rest];
}
