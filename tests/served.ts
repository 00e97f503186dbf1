import path from 'node:path';
import {
  type ImageServer,
  type ImageServerOptions,
  type LogEntry,
  type ServedModel,
  startImageServer,
} from '@detailflow/serve';
import { load, type Model } from 'detailflow';
import OpenAI from 'openai';

const root = path.dirname(import.meta.dirname);

export const loadServed = (): Promise<Model> => load(path.join(root, 'packages/model-fashion-32/model'));

/** A server of a test, what it logged, and the official client of it. */
export interface Served {
  readonly server: ImageServer;
  readonly url: string;
  readonly log: LogEntry[];
  readonly client: OpenAI;
  /** A count of /metrics, such as `detailflow_pictures_total{outcome="drawn"}`. */
  count(name: string): Promise<number>;
}

export async function startServed(
  model: ServedModel,
  options: Omit<ImageServerOptions, 'model' | 'log'> = {},
): Promise<Served> {
  const log: LogEntry[] = [];
  const server = await startImageServer({ model, port: 0, log: (entry) => log.push(entry), ...options });
  await server.ready;
  const { url } = server;
  const [apiKey = 'none-is-needed'] = options.keys ?? [];
  return {
    ...{ server, url, log },
    client: new OpenAI({ apiKey, baseURL: `${url}/v1`, maxRetries: 0 }),
    async count(name) {
      const text = await (
        await fetch(`${url}/metrics`, { headers: { authorization: `Bearer ${apiKey}` } })
      ).text();
      const line = text.split('\n').find((one) => one.startsWith(`${name} `));
      if (!line) throw new Error(`there is no count "${name}" in:\n${text}`);
      return Number(line.slice(name.length));
    },
  };
}

/** Waits for a sign of something, not for a while. */
export async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await holds())) await new Promise((resolve) => setTimeout(resolve, 10));
}
