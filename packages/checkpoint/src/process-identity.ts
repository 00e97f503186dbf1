import { readFile, readlink } from 'node:fs/promises';
import { hostname } from 'node:os';

/** What tells a process from every other one, as far as the system says it. */
export interface ProcessIdentity {
  /** Its number, which means something only inside `space`. */
  readonly process: number;
  /** When it started, in clock ticks since the system did; numbers are used again, these pairs are not. */
  readonly started?: string;
  /** The run of the system: another one after every start of the machine. */
  readonly boot?: string;
  /** The space of process numbers: containers have their own. */
  readonly space?: string;
  readonly host: string;
}

/** This process. */
export async function thisProcess(): Promise<ProcessIdentity> {
  const [started, boot, space] = await Promise.all([
    startOf(process.pid),
    readFile('/proc/sys/kernel/random/boot_id', 'utf8').then(
      (text) => text.trim(),
      () => undefined,
    ),
    readlink('/proc/self/ns/pid').catch(() => undefined),
  ]);
  return { process: process.pid, started, boot, space, host: hostname() };
}

/** Whether a process runs, looked at from this one; 'unknown' where it may be out of sight. */
export async function stateOf(
  other: ProcessIdentity,
  self: ProcessIdentity,
): Promise<'runs' | 'gone' | 'unknown'> {
  const hasTable = self.boot !== undefined && self.space !== undefined && self.started !== undefined;
  if (!hasTable) {
    // Without the table of Linux a number that is in use may be somebody else's.
    return other.boot === undefined && other.host === self.host && !exists(other.process)
      ? 'gone'
      : 'unknown';
  }
  if (other.boot !== self.boot || other.space !== self.space || other.started === undefined) return 'unknown';
  const started = await startOf(other.process);
  if (started === undefined && exists(other.process)) return 'unknown'; // the table hides processes of other users
  return started === other.started ? 'runs' : 'gone';
}

/** Field 22 of the process table; 'ended' for a process that nobody has waited for; undefined when there is none. */
async function startOf(id: number): Promise<string | undefined> {
  const text = await readFile(`/proc/${id}/stat`, 'utf8').catch(() => undefined);
  if (text === undefined) return undefined;
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' '); // the name before may hold anything
  return fields[0] === 'Z' || fields[0] === 'X' ? 'ended' : fields[19];
}

function exists(id: number): boolean {
  try {
    process.kill(id, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
