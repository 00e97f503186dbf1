import {
  APICallError,
  type ImageModelV3,
  type ImageModelV3CallOptions,
  InvalidResponseDataError,
  type JSONObject,
  type SharedV3Warning,
  UnsupportedFunctionalityError,
} from '@ai-sdk/provider';
import { drawOptions, firstSeed, MOST_PICTURES, pictureCount } from './draw-options';
import { bytesOf } from './image-file';
import { shapeWarning } from './picture-shape';

/** Characters of an answer. */
const MOST_CHARACTERS = 2 ** 28;

/** Where a model is served, and who asks. */
export interface RemoteOptions {
  /** Such as `http://127.0.0.1:8080/v1`. */
  readonly baseURL: string;
  readonly apiKey?: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Pictures that one request asks for. */
  readonly picturesPerRequest: number;
  /** What sends the requests. */
  readonly fetch: typeof globalThis.fetch;
}

type Result = Awaited<ReturnType<ImageModelV3['doGenerate']>>;

/** Has a server draw that speaks OpenAI's Images API. */
export class RemoteImageModel implements ImageModelV3 {
  readonly specificationVersion = 'v3';
  readonly provider = 'detailflow';
  readonly maxImagesPerCall = MOST_PICTURES;
  readonly modelId: string;
  readonly #options: RemoteOptions;

  constructor(modelId: string, options: RemoteOptions) {
    this.modelId = modelId;
    this.#options = options;
  }

  /**
   * @throws APICallError with the server's message, to be tried again where that helps; InvalidResponseDataError for an answer that
   *   holds other than the pictures asked for; InvalidArgumentError; UnsupportedFunctionalityError; the reason of `abortSignal`
   */
  async doGenerate(options: ImageModelV3CallOptions): Promise<Result> {
    const own = drawOptions(options);
    const [seed, n] = [firstSeed(options), pictureCount(options)];
    const { aspectRatio, prompt, size, files = [], mask, abortSignal, headers } = options;
    const warnings: SharedV3Warning[] = [];
    if (files.length > 1) {
      throw new UnsupportedFunctionalityError({
        functionality: 'several pictures',
        message: `${files.length} pictures are given; one is varied at a time`,
      });
    }
    const { tokens, keep, ...sampling } = own;
    const isFresh = files.length === 0;
    if (isFresh && mask) {
      throw new UnsupportedFunctionalityError({
        functionality: 'mask',
        message: 'a mask says what of a picture is drawn anew: give the picture, too',
      });
    }
    const ignored = isFresh ? { keep } : { tokens };
    for (const [feature, value] of Object.entries(ignored)) {
      if (value === undefined) continue;
      const details = isFresh
        ? 'there is no picture of which tokens could stay'
        : 'pictures that are varied have all tokens';
      warnings.push({ type: 'unsupported', feature, details });
    }
    const images: string[] = [];
    const timestamp = new Date();
    let last: Answer | undefined;
    const part = this.#options.picturesPerRequest;
    for (let at = 0; at < n; at += part) {
      const common = {
        ...{ model: this.modelId, n: Math.min(part, n - at), seed: seed + at, size },
        ...{ response_format: 'b64_json', ...sampling },
      };
      const request: Request_ = isFresh
        ? { path: 'images/generations', fields: { ...common, prompt, tokens } }
        : {
            ...(mask
              ? { path: 'images/edits', fields: { ...common, prompt, keep } }
              : { path: 'images/variations', fields: { ...common, prompt: prompt || undefined, keep } }),
            files: { image: bytesOf(files[0]), ...(mask && { mask: bytesOf(mask) }) },
          };
      last = await this.#ask(request, { headers, signal: abortSignal });
      images.push(...picturesOf(last.value, common.n));
    }
    const drawn = sizeOf(last?.value);
    const details = drawn
      ? shapeWarning(aspectRatio, drawn)
      : aspectRatio && 'the model decides of which shape pictures are';
    if (details) warnings.push({ type: 'unsupported', feature: 'aspectRatio', details });
    const told = drawn === undefined ? {} : { size: drawn };
    return {
      ...{ images, warnings },
      providerMetadata: { detailflow: { images: images.map((_, i) => ({ seed: seed + i, ...told })) } },
      response: { timestamp, modelId: this.modelId, headers: last?.headers },
    };
  }

  async #ask(
    { path, fields, files }: Request_,
    call: { readonly headers?: Record<string, string | undefined>; readonly signal?: AbortSignal },
  ): Promise<Answer> {
    const { baseURL, apiKey, headers, fetch } = this.#options;
    const url = `${baseURL}/${path}`;
    const given = Object.entries(fields).filter(([, value]) => value !== undefined);
    const requestBodyValues = Object.fromEntries(given);
    // By their names in small letters: two of one name would be sent as one with both values.
    const own = [...Object.entries(headers), ...Object.entries(call.headers ?? {})]
      .filter(([, value]) => value !== undefined)
      .map(([name, value]) => [name.toLowerCase(), value]);
    const failed = (message: string, more: Partial<ConstructorParameters<typeof APICallError>[0]>) =>
      new APICallError({ message, url, requestBodyValues, ...more });
    let response: Response;
    let text: string;
    try {
      response = await fetch(url, {
        method: 'POST',
        headers: {
          ...(files ? {} : { 'content-type': 'application/json' }),
          ...(apiKey !== undefined && { authorization: `Bearer ${apiKey}` }),
          ...(Object.fromEntries(own) as Record<string, string>),
        },
        body: files ? formOf(given, files) : JSON.stringify(requestBodyValues),
        signal: call.signal,
      });
      text = await readText(response);
    } catch (cause) {
      if (call.signal?.aborted || InvalidResponseDataError.isInstance(cause)) throw cause;
      const reason =
        cause instanceof Error ? ((cause.cause as Error | undefined)?.message ?? cause.message) : '';
      throw failed(`the server cannot be reached: ${reason}`, { cause, isRetryable: true });
    }
    const responseHeaders: Record<string, string> = {};
    response.headers.forEach((value, name) => {
      responseHeaders[name] = value;
    });
    const value = parsed(text);
    if (!response.ok) {
      const { message, param } =
        (value as { error?: { message?: unknown; param?: unknown } } | undefined)?.error ?? {};
      const said = typeof message === 'string' ? message : `the server answers ${response.status}`;
      const isTooMany = response.status === 400 && param === 'n';
      throw failed(
        isTooMany ? `${said}: set picturesPerRequest of createDetailFlow to what it takes` : said,
        {
          ...{
            statusCode: response.status,
            responseHeaders,
            responseBody: text.slice(0, 10_000),
            data: value,
          },
        },
      );
    }
    return { value, headers: responseHeaders };
  }
}

interface Request_ {
  readonly path: string;
  readonly fields: JSONObject;
  readonly files?: Readonly<Record<string, Uint8Array>>;
}

interface Answer {
  readonly value: unknown;
  readonly headers: Record<string, string>;
}

/** A form; its files need names, which say nothing. */
function formOf(
  fields: readonly (readonly [string, unknown])[],
  files: Readonly<Record<string, Uint8Array>>,
): FormData {
  const form = new FormData();
  for (const [name, value] of fields) form.append(name, String(value));
  for (const [name, bytes] of Object.entries(files)) form.append(name, new Blob([bytes as BlobPart]), name);
  return form;
}

async function readText(response: Response): Promise<string> {
  const decoder = new TextDecoder();
  let text = '';
  for await (const part of response.body ?? []) {
    text += decoder.decode(part, { stream: true });
    if (text.length > MOST_CHARACTERS) {
      throw new InvalidResponseDataError({
        data: undefined,
        message: `the answer is longer than ${MOST_CHARACTERS} characters`,
      });
    }
  }
  return text + decoder.decode();
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The size that an answer states, width first; undefined where it states none. */
function sizeOf(value: unknown): string | undefined {
  const { size } = (value ?? {}) as { size?: unknown };
  return typeof size === 'string' && /^[1-9]\d{0,5}x[1-9]\d{0,5}$/.test(size) ? size : undefined;
}

function picturesOf(value: unknown, count: number): string[] {
  const { data } = (value ?? {}) as { data?: unknown };
  const pictures = Array.isArray(data) ? data.map((one) => one?.b64_json) : [];
  const isSound = (text: unknown) =>
    typeof text === 'string' && text !== '' && /^[A-Za-z0-9+/]+={0,2}$/.test(text);
  if (pictures.length === count && pictures.every(isSound)) return pictures;
  throw new InvalidResponseDataError({
    data: undefined,
    message: `the answer holds ${pictures.filter(isSound).length} pictures in base64; ${count} were asked for`,
  });
}
