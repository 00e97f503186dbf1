import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { checkOptions, DetailFlowError, describe } from '@detailflow/core';
import { createAdaptorServer } from '@hono/node-server';
import { createImageApp, type ImageApp, type Unfinished } from './image-app';
import { type ImageAppOptions, imageAppOptionNames, requireSeconds } from './image-app-options';
import { createLog, type Log } from './request-log';
import { UnderWay } from './under-way';

/** As of the application, and where it listens. */
export interface ImageServerOptions extends ImageAppOptions {
  /** Address to listen on; default 127.0.0.1, which no other machine can reach. */
  readonly host?: string;
  /** Default 8000; 0 for any that is free. */
  readonly port?: number;
  /** Seconds for the headers of a request, and for what is silent; default 10. */
  readonly headerTimeout?: number;
  /** Connections at the same time; more are closed at once. Default 2048. */
  readonly connections?: number;
}

/** Seconds for the whole of a request to arrive. */
const ARRIVAL = 60;
const LARGEST_HEADER = 16 * 1024;

/** A server that listens. */
export interface ImageServer {
  /** Where it listens: http://HOST:PORT. */
  readonly url: string;
  readonly port: number;
  /** See {@link ImageApp.ready}. */
  readonly ready: Promise<void>;
  /**
   * Takes no more pictures on, finishes those under way, and waits until the answers are read; then it listens no longer.
   * What is not finished after `seconds`, 0 to 86400, is ended with an error, and answers that nobody has read 2 s later are
   * cut. An answer counts as read when the system has taken all of it.
   * @throws DetailFlowError `invalid-argument` for other seconds; nothing is ended then
   */
  drain(seconds: number): Promise<Unfinished>;
  /** Ends everything at once. The model stays. */
  close(): Promise<void>;
}

/**
 * Serves a model over HTTP. Resolves when it listens; the model loads meanwhile, see {@link ImageServer.ready}.
 * @throws DetailFlowError `invalid-argument`, `unsupported`; `io` when it cannot listen there
 * @see https://detailflow.github.io/detailflow-ts/guide/serve.html
 */
export async function startImageServer(options: ImageServerOptions): Promise<ImageServer> {
  checkOptions('startImageServer', options, {
    ...imageAppOptionNames,
    ...{ host: true, port: true, headerTimeout: true, connections: true },
  });
  const { host = '127.0.0.1', port = 8000, headerTimeout = 10, connections = 2048, ...rest } = options;
  const whole = (name: string, value: number, least: number, most: number) => {
    if (Number.isInteger(value) && value >= least && value <= most) return;
    throw new DetailFlowError('invalid-argument', `${name} is ${describe(value)}; give ${least} to ${most}`);
  };
  // For Node an empty text is no host at all: it would listen on every address of the machine.
  if (typeof host !== 'string' || host === '') {
    throw new DetailFlowError(
      'invalid-argument',
      `host is ${describe(host)}; give an address, such as "127.0.0.1"`,
    );
  }
  whole('port', port, 0, 65_535);
  whole('headerTimeout', headerTimeout, 1, 3600);
  whole('connections', connections, 1, 1_000_000);
  const app = createImageApp(rest);
  const server = createAdaptorServer({
    fetch: (request) => app.fetch(request),
    overrideGlobalObjects: false,
    serverOptions: {
      headersTimeout: headerTimeout * 1000,
      requestTimeout: Math.max(ARRIVAL, headerTimeout) * 1000,
      keepAliveTimeout: headerTimeout * 1000,
      connectionsCheckingInterval: 1000,
      maxHeaderSize: LARGEST_HEADER,
    },
  }) as Server;
  server.maxConnections = connections;
  try {
    await listening(server, port, host);
  } catch (error) {
    await app.close();
    throw error;
  }
  return new RunningServer({ server, app, host, log: createLog(rest.log) });
}

interface RunningParts {
  readonly server: Server;
  readonly app: ImageApp;
  readonly host: string;
  readonly log: Log;
}

class RunningServer implements ImageServer {
  readonly url: string;
  readonly port: number;
  readonly ready: Promise<void>;
  readonly #server: Server;
  readonly #app: ImageApp;
  /** Requests, each until its answer is sent or its connection is gone; not those that come when the server stops. */
  readonly #answers = new UnderWay();
  readonly #log: Log;
  #isStopping = false;

  constructor({ server, app, host, log }: RunningParts) {
    this.#server = server;
    this.#app = app;
    this.#log = log;
    this.ready = app.ready;
    this.port = (server.address() as AddressInfo).port;
    server.on('request', (_request, response) => {
      if (!this.#isStopping) response.once('close', this.#answers.begin());
    });
    this.url = `http://${host.includes(':') ? `[${host}]` : host}:${this.port}`;
  }

  async drain(seconds: number): Promise<Unfinished> {
    requireSeconds(seconds);
    const started = performance.now();
    const { pictures } = await this.#app.drain(seconds);
    const answers = await this.#stop(seconds - (performance.now() - started) / 1000);
    return { pictures, answers };
  }

  async close(): Promise<void> {
    await this.#app.close();
    await this.#stop(0);
  }

  /**
   * Gives clients so many seconds to read their answers, a moment at least; then it listens no longer, and cuts connections.
   * @returns how many answers were cut
   */
  async #stop(seconds: number): Promise<number> {
    const server = this.#server;
    this.#isStopping = true;
    // First of all: for Node a connection is idle, and closed, as soon as its answer is written, though nobody has read it.
    await this.#answers.idle(Math.max(seconds, LAST_MOMENT));
    const cut = this.#answers.count;
    const closed = new Promise<void>((resolve) => {
      server.close(() => resolve());
    });
    server.closeIdleConnections();
    if (cut > 0) server.closeAllConnections();
    const timer = setTimeout(() => server.closeAllConnections(), LAST_MOMENT * 1000);
    await closed;
    clearTimeout(timer);
    if (cut > 0) this.#log('warn', 'answers cut', { answers: cut });
    return cut;
  }
}

/** Seconds for the last answers to be read, and for what was begun to be said. */
const LAST_MOMENT = 2;

function listening(server: Server, port: number, host: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => {
      const reason = cause.code === 'EADDRINUSE' ? 'something else listens there already' : cause.message;
      reject(new DetailFlowError('io', `cannot listen on ${host}, port ${port}: ${reason}`, { cause }));
    });
    server.listen(port, host, () => {
      server.on('error', () => {}); // of single connections; the server goes on
      resolve();
    });
  });
}
