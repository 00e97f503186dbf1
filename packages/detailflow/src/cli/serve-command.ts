import { isIP } from 'node:net';
import { DetailFlowError } from '@detailflow/core';
import { readFileCapped } from '@detailflow/data/node';
import type { LogEntry } from '@detailflow/serve';
import { type Command, deviceOptions, UsageError } from './command';
import { dtypeOptions, familyOptions, withModel } from './model-options';
import { showNotice } from './show-notice';
import { requireFitting, textEncoderOptions, textEncoding } from './text-encoder';
import { Values } from './values';

const LARGEST_KEY_FILE = 2 ** 20;

export const serveCommand: Command = {
  name: 'serve',
  summary: "answer OpenAI's images API, with previews as pictures sharpen",
  usage: '(--model DIR | --tokenizer DIR --ar DIR) [OPTIONS]',
  options: {
    ...familyOptions,
    host: {
      type: 'string',
      value: 'ADDRESS',
      help: 'where to listen (default 127.0.0.1: this machine alone)',
    },
    port: { type: 'string', value: 'N', help: 'default 8000; 0 for any that is free' },
    name: {
      type: 'string',
      value: 'NAME',
      help: 'name that the model is served by (default: of its card or family)',
    },
    keys: {
      type: 'string',
      value: 'FILE',
      help: 'keys, one a line, of which requests must send one as bearer token',
    },
    origins: {
      type: 'string',
      value: 'URL[,URL]',
      help: 'other sites whose pages may ask, such as https://example.org (default: none)',
    },
    'max-batch': { type: 'string', value: 'N', help: 'pictures that are drawn at once (default 8)' },
    queue: {
      type: 'string',
      value: 'N',
      help: 'pictures that may wait; more are refused with 429 (default 64)',
    },
    'max-n': { type: 'string', value: 'N', help: 'most pictures of one request, 1 to 10 (default 10)' },
    'max-body': { type: 'string', value: 'MIB', help: 'largest upload (default 16)' },
    timeout: {
      type: 'string',
      value: 'S',
      help: 'seconds that a request may take, waiting included (default 300)',
    },
    ...textEncoderOptions,
    drain: {
      type: 'string',
      value: 'S',
      help: 'seconds to finish what was taken on after Ctrl-C or SIGTERM (default 60)',
    },
    quiet: { type: 'boolean', help: 'print no log (default: a line of JSON for each request)' },
    ...dtypeOptions,
    ...deviceOptions,
  },
  examples: [
    'serve --model @detailflow/model-fashion-32',
    'serve --model @detailflow/model-fashion-32 --dtype q8 --host 0.0.0.0 --port 80 --keys keys.txt --max-batch 16',
  ],
  async run(invocation) {
    const { positionals, signal } = invocation;
    const values = new Values(invocation);
    if (positionals.length > 0) throw new UsageError(`"${positionals[0]}" is not expected here`);
    const port = values.whole('port', { most: 65_535 }) ?? 8000;
    const host = values.text('host') ?? '127.0.0.1';
    const drain = values.whole('drain', { most: 86_400 }) ?? 60;
    const keyFile = values.text('keys');
    const encoding = await textEncoding(values);
    const origins = values.text('origins')?.split(',');
    const limits = {
      pictures: values.whole('max-batch', { least: 1, most: 256 }),
      queue: values.whole('queue', { most: 100_000 }),
      most: values.whole('max-n', { least: 1, most: 10 }),
      timeout: values.whole('timeout', { least: 1, most: 86_400 }),
      bodyLimit: mebibytes(values.whole('max-body', { least: 1, most: 1024 })),
    };
    const log = values.flag('quiet') ? undefined : printEntry;
    const { parseKeys, startImageServer } = await import('@detailflow/serve');
    const keys = keyFile === undefined ? undefined : parseKeys(await keyText(keyFile), keyFile);
    if (!isLocal(host) && !keys) {
      showNotice(`whoever reaches ${host} can draw pictures here: give --keys FILE, or leave --host out`);
    }
    return withModel(invocation, 'both', async (opened, start) => {
      requireFitting(encoding, opened);
      const model = await start();
      const given = { ...limits, ...encoding, name: values.text('name'), keys, origins, log };
      const server = await startImageServer({ model, host, port, ...given });
      const { url } = server;
      log?.({ time: new Date().toISOString(), level: 'info', event: 'listening', url });
      showNotice(`listens on ${url}`);
      const asked = ended(signal);
      try {
        await Promise.race([server.ready, asked]);
      } catch (error) {
        await server.close();
        throw error;
      }
      await asked;
      const { pictures, answers } = await server.drain(drain);
      if (pictures > 0)
        showNotice(`${pictures} pictures were not finished within ${drain} s; who waited for them was told`);
      if (answers > 0) showNotice(`${answers} answers were not read within ${drain} s, and cut`);
      const left = { unfinished: pictures, cut: answers };
      log?.({ time: new Date().toISOString(), level: 'info', event: 'stopped', ...left });
      return { lines: [], json: { url, ...left } };
    });
  },
};

const mebibytes = (count: number | undefined): number | undefined =>
  count === undefined ? undefined : count * 2 ** 20;

const isLocal = (host: string): boolean =>
  host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'));

async function keyText(file: string): Promise<string> {
  const bytes = await readFileCapped(file, LARGEST_KEY_FILE);
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new DetailFlowError('format', 'is no text in UTF-8', { file, cause });
  }
}

function printEntry(entry: LogEntry): void {
  process.stdout.write(`${JSON.stringify(entry)}\n`);
}

/** Resolves when the process is asked to end. */
function ended(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
