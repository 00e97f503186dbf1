import { randomUUID } from 'node:crypto';
import { checkOptions, DetailFlowError, describe } from '@detailflow/core';
import { OpenAPIHono } from '@hono/zod-openapi';
import type { Context } from 'hono';
import { ApiError, toApiError } from './api-error';
import { eventStream } from './event-stream';
import { answerEvents, wholeAnswer } from './image-answers';
import { type ImageAppOptions, imageAppOptionNames } from './image-app-options';
import {
  checkFields,
  editFields,
  formFields,
  generationFields,
  MOST_PICTURES,
  variationFields,
} from './image-fields';
import { defaultKeep, imageOf, keepFirst, keepOutside, maskOf } from './kept-tokens';
import { isKey, KeyCheck } from './keys';
import { type LinkedSignal, linkSignals } from './linked-signal';
import { describeRoutes } from './openapi';
import { PAGE, PAGE_HEADERS } from './page';
import { PictureDesk, type Promised } from './picture-desk';
import { type PictureRequest, pictureRequest, type Serving } from './picture-request';
import { readForm, readJson } from './read-body';
import { createLog, type Log } from './request-log';
import type { ServedModel } from './served-model';

/** Shares of the tokens that stay where a request does not say. */
const KEPT = { edits: 0.25, variations: 0.5 } as const;
const JSON_LIMIT = 256 * 1024;
/** Seconds after which a stream counts as over whose time is up and that nobody reads. */
const UNREAD = 5;

/** An image server without a network: give it requests, or mount it in another server. */
export interface ImageApp {
  /** Answers a request. */
  fetch(request: Request): Promise<Response>;
  /** Resolves when the model is loaded. Requests before are refused with 503. @throws what kept the model from loading */
  readonly ready: Promise<void>;
  /**
   * Takes no more pictures on, and finishes those under way; what is not finished after `seconds` is ended with an error.
   * @returns how many pictures were ended so
   */
  drain(seconds: number): Promise<number>;
  /** Ends everything at once. The model stays. */
  close(): Promise<void>;
}

/**
 * Answers requests for pictures with a model.
 * @throws DetailFlowError `invalid-argument`, `unsupported` for a model that no request could draw with
 * @see https://detailflow.github.io/detailflow-ts/guide/serve.html
 */
export function createImageApp(options: ImageAppOptions): ImageApp {
  checkOptions('createImageApp', options, imageAppOptionNames);
  return new App(options);
}

type Route = 'generations' | 'edits' | 'variations';

/** What handlers know of a request: its id, which its log lines carry. */
interface Env {
  readonly Variables: { id: string };
}
type Call = Context<Env>;

class App implements ImageApp {
  readonly ready: Promise<void>;
  readonly #serving: Serving;
  readonly #desk: PictureDesk;
  readonly #log: Log;
  readonly #keys: KeyCheck | undefined;
  readonly #timeout: number;
  readonly #bodyLimit: number;
  readonly #hono = new OpenAPIHono<Env>();
  readonly #closing = new AbortController();
  readonly #created = Math.floor(Date.now() / 1000);
  #status: 'loading' | 'ready' | 'draining' | 'failed' = 'loading';

  constructor(options: ImageAppOptions) {
    const { model, log, keys, pictures = 8 } = options;
    const whole = (
      name: 'pictures' | 'queue' | 'most' | 'timeout' | 'bodyLimit',
      value: number,
      most: number,
      least = 1,
    ) => {
      if (Number.isInteger(value) && value >= least && value <= most) return value;
      throw new DetailFlowError(
        'invalid-argument',
        `${name} is ${describe(value)}; give ${least} to ${most}`,
      );
    };
    whole('pictures', pictures, 256);
    const queue = whole('queue', options.queue ?? 64, 100_000, 0);
    const most = whole('most', options.most ?? MOST_PICTURES, MOST_PICTURES);
    this.#timeout = whole('timeout', options.timeout ?? 300, 86_400);
    this.#bodyLimit = whole('bodyLimit', options.bodyLimit ?? 16 * 2 ** 20, 2 ** 30);
    if (keys && (keys.length === 0 || !keys.every(isKey))) {
      throw new DetailFlowError(
        'invalid-argument',
        'keys: give at least one, of 8 to 512 visible characters of ASCII',
      );
    }
    this.#keys = keys && new KeyCheck(keys);
    this.#serving = { ...serving(model, options.name), most };
    this.#log = createLog(log);
    this.#desk = new PictureDesk({ serving: this.#serving, pictures, queue });
    this.#addRoutes();
    this.ready = this.#load();
    this.ready.catch(() => {}); // whoever waits for it hears of it; /ready says it to everybody else
  }

  async fetch(request: Request): Promise<Response> {
    return this.#hono.fetch(request);
  }

  async drain(seconds: number): Promise<number> {
    this.#stopTaking();
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, seconds * 1000);
    });
    await Promise.race([this.#desk.idle(), late]);
    clearTimeout(timer);
    const left = this.#desk.taken;
    await this.close();
    return left;
  }

  async close(): Promise<void> {
    this.#stopTaking();
    this.#closing.abort(
      new ApiError(503, 'the server is closing', { code: 'server_closing', retryAfter: 5 }),
    );
    await this.#desk.idle();
    await this.#desk.close();
  }

  async #load(): Promise<void> {
    const started = performance.now();
    try {
      await this.#desk.warm(this.#closing.signal);
    } catch (error) {
      if (this.#status === 'loading') this.#status = 'failed';
      this.#log('error', 'model not loaded', { reason: messageOf(error) });
      throw error;
    }
    if (this.#status !== 'loading') return;
    this.#status = 'ready';
    this.#desk.isReady = true;
    this.#log('info', 'ready', { model: this.#serving.id, seconds: since(started) });
  }

  #stopTaking(): void {
    if (this.#status === 'draining') return;
    this.#status = 'draining';
    this.#desk.isReady = false;
    this.#log('info', 'draining', { pictures: this.#desk.taken });
  }

  #addRoutes(): void {
    const app = this.#hono;
    const guard = (c: Call) => {
      if (!this.#keys || this.#keys.allows(c.req.header('authorization'))) return;
      throw new ApiError(401, 'send a key of this server as "Authorization: Bearer KEY"', {
        ...{ type: 'authentication_error', code: 'invalid_api_key' },
      });
    };
    app.use(async (c, next) => {
      const started = performance.now();
      const given = c.req.header('x-request-id') ?? '';
      const id = /^[\w.:-]{1,128}$/.test(given) ? given : randomUUID();
      c.set('id', id);
      await next();
      c.header('x-request-id', id);
      if (this.#status === 'draining') c.header('connection', 'close');
      const route = routeOf(c.req.path);
      this.#desk.metrics.answered(route, c.res.status);
      const isStream = c.res.headers.get('content-type')?.startsWith('text/event-stream') ?? false;
      if (isStream) return; // says so itself when it ends
      this.#log('info', 'request', {
        ...{ id, method: c.req.method, route, status: c.res.status, seconds: since(started) },
      });
    });
    app.onError((error, c) => this.#fail(error, c));
    app.notFound((c) =>
      this.#fail(new ApiError(404, 'there is no such address; see /openapi.json', { code: 'not_found' }), c),
    );
    app.get('/', (c) => c.html(PAGE, 200, PAGE_HEADERS));
    app.get('/health', (c) => c.json({ status: 'ok' }));
    app.get('/ready', (c) => c.json({ status: this.#status }, this.#status === 'ready' ? 200 : 503));
    app.get('/metrics', async (c) => {
      guard(c);
      return c.text(await this.#desk.metrics.text(), 200, { 'content-type': this.#desk.metrics.contentType });
    });
    app.get('/v1/models', (c) => {
      guard(c);
      return c.json({ object: 'list', data: [this.#modelEntry()] });
    });
    app.get('/v1/models/:model', (c) => {
      guard(c);
      if (c.req.param('model') === this.#serving.id) return c.json(this.#modelEntry());
      throw new ApiError(404, `"${this.#serving.id}" is the only model here`, { code: 'model_not_found' });
    });
    for (const route of ['generations', 'edits', 'variations'] as const) {
      app.post(`/v1/images/${route}`, (c) => {
        guard(c);
        return this.#draw(route, c);
      });
      app.all(`/v1/images/${route}`, () => {
        throw new ApiError(405, 'use POST', { code: 'method_not_allowed' });
      });
    }
    describeRoutes(app);
    const document = app.getOpenAPI31Document({
      openapi: '3.1.0',
      info: {
        title: 'DetailFlow images',
        version: '1',
        description: "OpenAI's images API with fields of our own",
      },
    });
    app.get('/openapi.json', (c) => c.json(document));
  }

  #modelEntry() {
    const { id, model, tokenModel } = this.#serving;
    const { tokenizer, family, card, cfg } = model;
    return {
      ...{ id, object: 'model', created: this.#created, owned_by: 'detailflow', family, cfg },
      ...{ tokens: tokenModel.tokens, classes: tokenModel.classes, previews: tokenizer.previews },
      image_size: tokenizer.resolution(tokenModel.tokens),
      ...(card && { license: card.license, attribution: card.attribution, class_names: card.classNames }),
    };
  }

  #fail(thrown: unknown, c: Call): Response {
    const error = toApiError(thrown);
    const id = c.get('id');
    if (error.status >= 500 && error.cause) {
      this.#log('error', 'request failed', {
        id,
        route: routeOf(c.req.path),
        reason: messageOf(error.cause),
      });
    }
    if (error.retryAfter !== undefined) c.header('retry-after', String(error.retryAfter));
    if (error.status === 401) c.header('www-authenticate', 'Bearer');
    if (error.status === 405) c.header('allow', 'POST');
    return c.json(error.body, error.status as 400);
  }

  async #draw(route: Route, c: Call): Promise<Response> {
    this.#requireReady();
    const { raw } = c.req;
    const timeUp = () =>
      new ApiError(503, `the request took more than ${this.#timeout} s`, { code: 'timeout' });
    const link = linkSignals([raw.signal, this.#closing.signal], { seconds: this.#timeout, reason: timeUp });
    let isStreaming = false;
    try {
      const request = await this.#read(route, raw, link.signal);
      this.#requireReady();
      if (raw.signal.aborted) throw raw.signal.reason;
      const promised = this.#desk.take(request.n);
      if (request.stream) {
        isStreaming = true;
        return this.#stream(c, { route, request, promised, link });
      }
      const answer = await wholeAnswer(request, this.#desk.draw(request, promised, link.signal));
      return c.json(answer);
    } catch (error) {
      // The client has gone: nobody reads the answer, and the log says why there is none.
      if (raw.signal.aborted) throw new ApiError(499, 'the client has gone', { code: 'cancelled' });
      throw error;
    } finally {
      if (!isStreaming) link.release();
    }
  }

  #requireReady(): void {
    if (this.#status === 'ready') return;
    const code = this.#status === 'draining' ? 'server_closing' : 'not_ready';
    throw new ApiError(503, `the server is ${this.#status}`, { code, retryAfter: 5 });
  }

  async #read(route: Route, raw: Request, signal: AbortSignal): Promise<PictureRequest> {
    if (route === 'generations') {
      const fields = checkFields(generationFields, await readJson(raw, JSON_LIMIT));
      return pictureRequest(this.#serving, fields, { needsClass: true });
    }
    const form = await readForm(raw, this.#bodyLimit);
    const fields = checkFields(route === 'edits' ? editFields : variationFields, formFields(form));
    const [image, mask] = [imageOf(form), route === 'edits' ? maskOf(form) : undefined];
    if (route === 'variations' && form.has('mask')) {
      throw new ApiError(400, 'variations take no mask; edits do', { param: 'mask', code: 'unknown_field' });
    }
    if (mask && fields.keep != null) {
      throw new ApiError(400, 'give mask or keep, not both', { param: 'keep', code: 'invalid_value' });
    }
    // Looks at the fields before the picture is encoded, which costs a run of the model.
    const needsClass = route === 'edits';
    pictureRequest(this.#serving, fields, { needsClass });
    const kept = mask
      ? await keepOutside(this.#serving, { image, mask, signal })
      : await keepFirst(this.#serving, {
          ...{ image, signal },
          count: fields.keep ?? defaultKeep(this.#serving.tokenModel, KEPT[route]),
        });
    return pictureRequest(this.#serving, fields, { needsClass, kept });
  }

  #stream(
    c: Call,
    job: { route: Route; request: PictureRequest; promised: Promised; link: LinkedSignal },
  ): Response {
    const { route, request, promised, link } = job;
    const started = performance.now();
    const id = c.get('id');
    const path = routeOf(c.req.path);
    const desk = this.#desk;
    const log = this.#log;
    let error: ApiError | undefined;
    let isWhole = false;
    let isOver = false;
    const finish = () => {
      if (isOver) return;
      isOver = true;
      promised.giveUp('cancelled');
      link.release();
      const outcome = isWhole && !error ? 'whole' : error && error.status !== 499 ? 'failed' : 'cancelled';
      log(outcome === 'failed' ? 'error' : 'info', 'stream', {
        ...{ id, route: path, outcome, seconds: since(started), pictures: request.n },
        ...(outcome === 'failed' && { reason: messageOf(error?.cause ?? error) }),
      });
    };
    async function* events() {
      try {
        const pictures = desk.draw(request, promised, link.signal);
        const kind = route === 'generations' ? 'image_generation' : 'image_edit';
        yield* answerEvents(kind, request, pictures, (one) => {
          error = one;
        });
        isWhole = true;
      } finally {
        finish();
      }
    }
    const body = eventStream(events(), {
      signal: link.signal,
      onCancel: () => {
        link.abort(new DOMException('the client has gone', 'AbortError'));
        finish(); // of a stream that nobody has begun to read
      },
    });
    link.signal.addEventListener('abort', () => setTimeout(finish, UNREAD * 1000).unref(), { once: true });
    return c.body(body, 200, {
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache, no-transform',
      'x-accel-buffering': 'no',
    });
  }
}

/** An address as the log and the counts name it: what is not ours is one kind. */
function routeOf(path: string): string {
  const known = ['/', '/health', '/ready', '/metrics', '/openapi.json', '/v1/models'];
  if (known.includes(path) || /^\/v1\/images\/(generations|edits|variations)$/.test(path)) return path;
  return path.startsWith('/v1/models/') ? '/v1/models/:model' : 'other';
}

/** @throws DetailFlowError `unsupported` for a model without AR part, and for one whose conditions are texts */
function serving(model: ServedModel, name: string | undefined): Omit<Serving, 'most'> {
  const { tokenModel } = model;
  if (!tokenModel) {
    throw new DetailFlowError('unsupported', 'this model has no AR part: it can encode and decode, not draw');
  }
  if (tokenModel.classes === 0) {
    throw new DetailFlowError(
      'unsupported',
      'this model draws from the features of texts, and there is no text encoder here to make them: serve one with classes',
    );
  }
  const id = name ?? model.card?.name ?? model.family.toLowerCase();
  if (id === '' || id.length > 256) {
    throw new DetailFlowError('invalid-argument', `name is ${describe(id)}; give 1 to 256 characters`);
  }
  return { id, model, tokenModel };
}

const since = (started: number): number => Math.round(performance.now() - started) / 1000;

const messageOf = (error: unknown): string =>
  (error instanceof Error ? error.message : String(error)).slice(0, 500);
