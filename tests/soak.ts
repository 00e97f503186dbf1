import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import OpenAI from 'openai';
import { inRepository } from './cli';

export interface SoakReport {
  /** Requests by how they ended for the client. */
  readonly whole: number;
  readonly cancelled: number;
  /** What went wrong with requests that nobody cancelled. */
  readonly failures: readonly string[];
  /** Pictures that clients asked for, and those of requests that came back whole. */
  readonly asked: number;
  readonly received: number;
  /** Pictures as the server counts them. */
  readonly pictures: Readonly<Record<'drawn' | 'cancelled' | 'failed' | 'refused', number>>;
  /** Pictures that the server believes to be at work at the end. */
  readonly atWork: number;
  /** Answers that the server counts, and lines of its log about them. */
  readonly answered: number;
  readonly logged: number;
  /** Same fields and seed, other picture. */
  readonly changed: readonly string[];
  /** Memory of the server in MiB, from time to time. */
  readonly memory: readonly number[];
  readonly exitCode: number | null;
}

const CLIENTS = 8;
/** Different pictures that are asked for again and again. */
const PICTURES = 40;

/** A number from 0 to 1 that depends on the index alone. */
const chance = (index: number, salt: number) =>
  createHash('sha256').update(`${salt}:${index}`).digest().readUInt32BE() / 2 ** 32;

/** Asks a server, in a process of its own, for pictures of all kinds; a tenth of the requests is cancelled on the way. */
export async function soak(requests: number): Promise<SoakReport> {
  const program = inRepository('packages/detailflow/dist/cli.js');
  const model = inRepository('packages/model-fashion-32/model');
  const child = spawn(
    process.execPath,
    [program, 'serve', '--model', model, '--port', '0', '--queue', '64'],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
  let logged = 0;
  const url = await new Promise<string>((resolve, reject) => {
    let found = '';
    createInterface({ input: child.stdout }).on('line', (line) => {
      const { event, url: listening, route } = JSON.parse(line);
      if (event === 'listening') found = listening;
      if (event === 'ready') resolve(found);
      if (route === '/v1/images/generations' && ['request', 'stream'].includes(event)) logged++;
    });
    child.once('exit', (code) => reject(new Error(`the server ended with ${code}`)));
  });
  const ended = once(child, 'close');
  const client = new OpenAI({ apiKey: 'none', baseURL: `${url}/v1`, maxRetries: 0 });
  const counts = async (name: string): Promise<Map<string, number>> => {
    const text = await (await fetch(`${url}/metrics`)).text();
    const lines = text.split('\n').filter((line) => line.startsWith(`detailflow_${name}`));
    return new Map(
      lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ')))]),
    );
  };

  const seen = new Map<string, string>();
  const [failures, changed, memory]: [string[], string[], number[]] = [[], [], []];
  let [next, whole, cancelled, asked, received] = [0, 0, 0, 0, 0];
  const check = (one: { b64_json?: string; seed?: number; class?: number }) => {
    const name = `class ${one.class}, seed ${one.seed}`;
    const hash = createHash('sha256')
      .update(one.b64_json ?? '')
      .digest('hex');
    if ((seen.get(name) ?? hash) !== hash) changed.push(name);
    seen.set(name, hash);
    received++;
  };
  const ask = async (index: number, signal: AbortSignal): Promise<void> => {
    const which = Math.floor(chance(index, 1) * PICTURES);
    const n = chance(index, 2) < 0.2 ? 2 : 1;
    asked += n;
    const fields = { prompt: String(which % 10), n, ...{ seed: Math.floor(which / 10) * 100 } };
    if (chance(index, 3) < 0.5) {
      const { data = [] } = await client.images.generate(fields, { signal });
      if (data.length !== n) throw new Error(`${data.length} pictures of ${n}`);
      data.forEach(check);
      return;
    }
    const previews = Math.floor(chance(index, 4) * 4);
    const stream = await client.images.generate(
      { ...fields, stream: true, partial_images: previews },
      { signal },
    );
    let [completed, partial] = [0, 0];
    for await (const event of stream) {
      if (event.type === 'image_generation.partial_image') partial++;
      else {
        check(event as unknown as { b64_json: string });
        completed++;
      }
    }
    if (signal.aborted) throw signal.reason; // a stream that is left ends without an error
    if (completed !== n || partial !== n * previews)
      throw new Error(`${completed} and ${partial} of ${n} and ${previews}`);
  };
  const work = async () => {
    while (next < requests) {
      const index = next++;
      const controller = new AbortController();
      const isCancelled = chance(index, 5) < 0.1;
      const timer = isCancelled && setTimeout(() => controller.abort(), chance(index, 6) * 150);
      try {
        await ask(index, controller.signal);
        whole++;
      } catch (error) {
        if (isCancelled && controller.signal.aborted) cancelled++;
        else failures.push(`request ${index}: ${error}`);
      }
      clearTimeout(timer || undefined);
      if (index % Math.ceil(requests / 40) === 0) {
        memory.push([...(await counts('resident_memory_bytes')).values()][0] / 2 ** 20);
      }
    }
  };
  await Promise.all(Array.from({ length: CLIENTS }, work));
  let atWork = 1;
  for (let tries = 0; atWork > 0 && tries < 600; tries++) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    const now = await counts('pictures_');
    atWork = (now.get('detailflow_pictures_running') ?? 1) + (now.get('detailflow_pictures_waiting') ?? 1);
  }
  const pictures = await counts('pictures_total');
  const answers = [...(await counts('requests_total'))].filter(([name]) =>
    name.includes('/v1/images/generations'),
  );
  child.kill('SIGTERM');
  const [exitCode] = (await ended) as [number | null];
  const ofOutcome = (outcome: string) =>
    pictures.get(`detailflow_pictures_total{outcome="${outcome}"}`) ?? Number.NaN;
  return {
    ...{ whole, cancelled, failures, asked, received, atWork, logged, changed, memory, exitCode },
    pictures: {
      ...{ drawn: ofOutcome('drawn'), cancelled: ofOutcome('cancelled') },
      ...{ failed: ofOutcome('failed'), refused: ofOutcome('refused') },
    },
    answered: answers.reduce((sum, [, count]) => sum + count, 0),
  };
}

/** What must hold of a report, as a list of what does not. */
export function unaccounted(report: SoakReport, requests: number): string[] {
  const {
    whole,
    cancelled,
    failures,
    asked,
    received,
    pictures,
    atWork,
    answered,
    logged,
    changed,
    exitCode,
  } = report;
  const faults: string[] = [...failures, ...changed.map((one) => `${one} changed`)];
  const must = (holds: boolean, what: string) => holds || faults.push(what);
  must(whole + cancelled === requests, `${whole} whole and ${cancelled} cancelled of ${requests} requests`);
  must(
    pictures.failed === 0 && pictures.refused === 0,
    `${pictures.failed} failed, ${pictures.refused} refused`,
  );
  const known = pictures.drawn + pictures.cancelled;
  must(
    pictures.drawn >= received && known <= asked,
    `${known} known, ${received} received of ${asked} asked for`,
  );
  // A request that was cancelled before it was sent never came; all others are answered, and logged once.
  must(answered >= whole && answered <= requests, `${answered} answers to ${requests} requests`);
  must(logged === answered, `${logged} lines of the log for ${answered} answers`);
  must(atWork === 0, `${atWork} pictures at work when nobody asks`);
  must(exitCode === 0, `exit code ${exitCode}`);
  return faults;
}
