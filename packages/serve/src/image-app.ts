import { randomUUID } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import { checkOptions, DetailFlowError, describe } from '@detailflow/core';
import { OpenAPIHono } from '@hono/zod-openapi';
import type { Context } from 'hono';
import { ApiError, toApiError } from './api-error';
import { CrossSite } from './cross-site';
import { eventStream } from './event-stream';
import { answerEvents, wholeAnswer } from './image-answers';
import { type ImageAppOptions, imageAppOptionNames, requireKinds, requireSeconds } from './image-app-options';
import { LONGEST_PROMPT, MOST_PICTURES } from './image-fields';
import { Intake, ROUTES, type Route, type Taken } from './intake';
import { isKey, KeyCheck } from './keys';
import { type LinkedSignal, linkSignals } from './linked-signal';
import { describeRoutes } from './openapi';
import { PAGE, PAGE_HEADERS } from './page';
import { PictureDesk } from './picture-desk';
import type { PromptRules, Serving } from './picture-request';
import { sizeOfTokens, sizeText } from './picture-size';
import { PromptEncoder } from './prompt-encoder';
import { createLog, type Log } from './request-log';
import type { ServedModel } from './served-model';
import { UnderWay } from './under-way';

/** Seconds after which a stream counts as over whose time is up and that nobody reads. */
const UNREAD = 5;

/** What was not finished when a server ended. */
export interface Unfinished {
  /** Pictures that were ended with an error. */
  readonly pictures: number;
  /** Answers that were not delivered, or not wholly. */
  readonly answers: number;
}

/** An image server without a network: give it requests, or mount it in another server. */
export interface ImageApp {
  /** Answers a request. */
  fetch(request: Request): Promise<Response>;
  /** Resolves when the model is loaded. Requests before are refused with 503. @throws what kept the model from loading */
  readonly ready: Promise<void>;
  /**
   * Takes no more pictures on, finishes those under way, and waits until their streams are read; what is not finished after
   * `seconds`, 0 to 86400, is ended with an error. Whether answers in one piece arrive is known to whoever sends them.
   * @throws DetailFlowError `invalid-argument` for other seconds; nothing is ended then
   */
  drain(seconds: number): Promise<Unfinished>;
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
  readonly #crossSite: CrossSite;
  readonly #intake: Intake;
  readonly #timeout: number;
  /** Requests for pictures, each until its answer is handed over or its stream is read. */
  readonly #answers = new UnderWay();
  readonly #hono = new OpenAPIHono<Env>();
  readonly #closing = new AbortController();
  readonly #created = Math.floor(Date.now() / 1000);
  #status: 'loading' | 'ready' | 'draining' | 'failed' = 'loading';

  constructor(options: ImageAppOptions) {
    const { model, log, keys, pictures = 8 } = options;
    requireKinds(options);
    whole('pictures', pictures, 256);
    const queue = whole('queue', options.queue ?? 64, 100_000, 0);
    const most = whole('most', options.most ?? MOST_PICTURES, MOST_PICTURES);
    this.#timeout = whole('timeout', options.timeout ?? 300, 86_400);
    const bodyLimit = whole('bodyLimit', options.bodyLimit ?? 16 * 2 ** 20, 2 ** 30);
    if (keys !== undefined && !(Array.isArray(keys) && keys.length > 0 && keys.every(isKey))) {
      throw new DetailFlowError(
        'invalid-argument',
        'keys: give a list of at least one, each of 8 to 512 visible characters of ASCII',
      );
    }
    this.#keys = keys && new KeyCheck(keys);
    this.#crossSite = new CrossSite(options.origins);
    this.#serving = { ...serving(model, options.name), most, prompts: promptRules(options) };
    this.#log = createLog(log);
    this.#desk = new PictureDesk({ serving: this.#serving, pictures, queue });
    this.#intake = new Intake({ serving: this.#serving, desk: this.#desk, bodyLimit, forms: pictures });
    setMaxListeners(0, this.#closing.signal); // one a request
    this.#addRoutes();
    this.ready = this.#load();
    this.ready.catch(() => {}); // whoever waits for it hears of it; /ready says it to everybody else
  }

  async fetch(request: Request): Promise<Response> {
    return this.#hono.fetch(request);
  }

  async drain(seconds: number): Promise<Unfinished> {
    requireSeconds(seconds);
    this.#stopTaking();
    await this.#answers.idle(seconds);
    const unfinished = { pictures: this.#desk.taken, answers: this.#answers.count };
    await this.close();
    return unfinished;
  }

  async close(): Promise<void> {
    this.#stopTaking();
    this.#closing.abort(closing());
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
    this.#intake.stop(closing());
    this.#log('info', 'draining', { pictures: this.#desk.taken, answers: this.#answers.count });
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
      const preflight = this.#crossSite.preflight(c);
      if (preflight) c.res = preflight;
      else await next();
      c.header('x-request-id', id);
      this.#crossSite.allowReading(c);
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
    for (const route of ROUTES) {
      app.post(`/v1/images/${route}`, (c) => {
        this.#crossSite.check(c);
        guard(c);
        return this.#draw(route, c);
      });
      app.all(`/v1/images/${route}`, () => {
        throw new ApiError(405, 'use POST', { code: 'method_not_allowed' });
      });
    }
    describeRoutes(app, this.#serving);
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
    const { id, model, tokenModel, prompts } = this.#serving;
    const { tokenizer, family, card, cfg, text } = model;
    const size = sizeOfTokens(tokenizer, tokenModel.tokens);
    return {
      ...{ id, object: 'model', created: this.#created, owned_by: 'detailflow', family, cfg },
      ...{ tokens: tokenModel.tokens, classes: tokenModel.classes, previews: tokenizer.previews },
      ...{ size: sizeText(size), image_width: size.width, image_height: size.height },
      prompt: prompts ? 'text' : 'class',
      ...(prompts && {
        ...{ prompt_characters: prompts.limit, prompt_tokens: text?.places },
        text_encoder: prompts.encoder !== undefined,
      }),
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
    const answered = this.#answers.begin();
    let isStreaming = false;
    try {
      const taken = await this.#intake.take(route, raw, link.signal);
      const { request, promised } = taken;
      if (request.stream) {
        isStreaming = true;
        return this.#stream(c, { ...taken, route, link, answered });
      }
      const answer = await wholeAnswer(request, this.#desk.draw(request, promised, link.signal));
      return c.json(answer);
    } catch (error) {
      // The client has gone: nobody reads the answer, and the log says why there is none.
      if (raw.signal.aborted) throw new ApiError(499, 'the client has gone', { code: 'cancelled' });
      throw error;
    } finally {
      if (!isStreaming) {
        link.release();
        answered();
      }
    }
  }

  #requireReady(): void {
    if (this.#status === 'ready') return;
    const code = this.#status === 'draining' ? 'server_closing' : 'not_ready';
    throw new ApiError(503, `the server is ${this.#status}`, { code, retryAfter: 5 });
  }

  #stream(
    c: Call,
    job: Taken & { readonly route: Route; readonly link: LinkedSignal; readonly answered: () => void },
  ): Response {
    const { route, request, promised, link, answered } = job;
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
      answered();
      // Of a stream that was cut while it was read, the signal says why.
      if (!isWhole && link.signal.reason instanceof ApiError) error ??= link.signal.reason;
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

function whole(name: keyof ImageAppOptions, value: number, most: number, least = 1): number {
  if (Number.isInteger(value) && value >= least && value <= most) return value;
  throw new DetailFlowError('invalid-argument', `${name} is ${describe(value)}; give ${least} to ${most}`);
}

/** What a prompt may be, where the model draws for texts. @throws DetailFlowError `invalid-argument`, `unsupported` */
function promptRules({ model, encodeText, ...given }: ImageAppOptions): PromptRules | undefined {
  const texts = whole('texts', given.texts ?? 1, 256);
  const seconds = whole('textTimeout', given.textTimeout ?? 60, 86_400);
  const limit = whole('promptLimit', given.promptLimit ?? 4000, LONGEST_PROMPT);
  if (encodeText !== undefined && typeof encodeText !== 'function') {
    throw new DetailFlowError('invalid-argument', `encodeText is ${describe(encodeText)}; give a function`);
  }
  if (model.tokenModel?.classes !== 0) {
    if (encodeText === undefined) return undefined;
    throw new DetailFlowError('invalid-argument', 'encodeText is for models of texts; this one has classes');
  }
  const { text: sizes } = model;
  if (!sizes) {
    throw new DetailFlowError(
      'unsupported',
      'this model draws from the features of texts and does not say of which size: give "text" with the model',
    );
  }
  return { limit, ...(encodeText && { encoder: new PromptEncoder({ encodeText, sizes, texts, seconds }) }) };
}

/** @throws DetailFlowError `unsupported` for a model without AR part */
function serving(model: ServedModel, name: string | undefined): Omit<Serving, 'most'> {
  const { tokenModel } = model;
  if (!tokenModel) {
    throw new DetailFlowError('unsupported', 'this model has no AR part: it can encode and decode, not draw');
  }
  const id = name ?? model.card?.name ?? model.family.toLowerCase();
  if (id === '' || id.length > 256) {
    throw new DetailFlowError('invalid-argument', `name is ${describe(id)}; give 1 to 256 characters`);
  }
  return { id, model, tokenModel };
}

const closing = () => new ApiError(503, 'the server is closing', { code: 'server_closing', retryAfter: 5 });

const since = (started: number): number => Math.round(performance.now() - started) / 1000;

const messageOf = (error: unknown): string =>
  (error instanceof Error ? error.message : String(error)).slice(0, 500);
