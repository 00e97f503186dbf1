import { type ChildProcess, fork } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import type { Socket } from 'node:net';
import { fileURLToPath } from 'node:url';

export interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

let host: ChildProcess | undefined;
let isBusy = false;

/**
 * Runs the built program in a process that this test file keeps for it, which spares a start of Node and of the runtime each
 * time; undefined while that process is at another run.
 */
export function runInHost(program: string, args: readonly string[]): Promise<Outcome> | undefined {
  if (isBusy) return undefined;
  isBusy = true;
  const child = host ?? open(program);
  host = child;
  const end = `\n-- end of run ${randomUUID()} --\n`;
  const [stdout, stderr] = [child.stdout, child.stderr].map((stream) => until(stream as Socket, end));
  const answer = new Promise<number>((resolve) =>
    child.once('message', ({ code }: { code: number }) => resolve(code)),
  );
  const death = new Promise<number | null>((resolve) => child.once('close', resolve));
  child.send({ args, env: process.env, folder: process.cwd(), end });
  return Promise.race([answer, death]).then(async (code) => {
    if (child.exitCode !== null || child.signalCode !== null)
      host = undefined; // what the run died of is its outcome
    else await Promise.all([stdout.whole, stderr.whole]);
    child.removeAllListeners('message').removeAllListeners('close');
    isBusy = false;
    return { code, stdout: stdout.taken(), stderr: stderr.taken() };
  });
}

function open(program: string): ChildProcess {
  const child = fork(fileURLToPath(new URL('./cli-process.mjs', import.meta.url)), [program], {
    ...{ stdio: ['ignore', 'pipe', 'pipe', 'ipc'], execArgv: [] },
  });
  // It ends with the test file, which does not wait for it.
  child.unref();
  child.channel?.unref();
  for (const stream of [child.stdout, child.stderr]) (stream as Socket).unref();
  return child;
}

/** What a stream says before `end`. */
function until(stream: Socket, end: string) {
  let text = '';
  let ended = () => {};
  const whole = new Promise<void>((resolve) => (ended = resolve));
  const listen = (data: Buffer) => {
    text += data.toString('latin1');
    if (text.slice(-end.length - data.length).includes(end)) ended();
  };
  stream.on('data', listen);
  return {
    whole,
    taken() {
      stream.off('data', listen);
      return Buffer.from(text.replace(end, ''), 'latin1').toString();
    },
  };
}
