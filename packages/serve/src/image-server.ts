import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { checkOptions, DetailFlowError, describe } from '@detailflow/core';
import { createAdaptorServer } from '@hono/node-server';
import { createImageApp, type ImageApp } from './image-app';
import type { ImageAppOptions } from './image-app-options';

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
  /** See {@link ImageApp.drain}; then it listens no longer. */
  drain(seconds: number): Promise<number>;
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
    ...{ model: true, name: true, pictures: true, queue: true, most: true, timeout: true },
    ...{
      bodyLimit: true,
      keys: true,
      log: true,
      host: true,
      port: true,
      headerTimeout: true,
      connections: true,
    },
  });
  const { host = '127.0.0.1', port = 8000, headerTimeout = 10, connections = 2048, ...rest } = options;
  const whole = (name: string, value: number, least: number, most: number) => {
    if (Number.isInteger(value) && value >= least && value <= most) return;
    throw new DetailFlowError('invalid-argument', `${name} is ${describe(value)}; give ${least} to ${most}`);
  };
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
  return new RunningServer(server, app, host);
}

class RunningServer implements ImageServer {
  readonly url: string;
  readonly port: number;
  readonly ready: Promise<void>;
  readonly #server: Server;
  readonly #app: ImageApp;

  constructor(server: Server, app: ImageApp, host: string) {
    this.#server = server;
    this.#app = app;
    this.ready = app.ready;
    this.port = (server.address() as AddressInfo).port;
    this.url = `http://${host.includes(':') ? `[${host}]` : host}:${this.port}`;
  }

  async drain(seconds: number): Promise<number> {
    const left = await this.#app.drain(seconds);
    await this.#stop();
    return left;
  }

  async close(): Promise<void> {
    await this.#app.close();
    await this.#stop();
  }

  /** Closes what is idle at once, and the rest when its answer is sent, or after a moment. */
  async #stop(): Promise<void> {
    const server = this.#server;
    const closed = new Promise<void>((resolve) => {
      server.close(() => resolve());
    });
    server.closeIdleConnections();
    const timer = setTimeout(() => server.closeAllConnections(), LAST_ANSWERS);
    await closed;
    clearTimeout(timer);
  }
}

/** Milliseconds for the last answers to be read. */
const LAST_ANSWERS = 2000;

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
