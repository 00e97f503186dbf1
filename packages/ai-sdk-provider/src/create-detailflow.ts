import {
  type EmbeddingModelV3,
  InvalidArgumentError,
  type LanguageModelV3,
  NoSuchModelError,
  type ProviderV3,
} from '@ai-sdk/provider';
import { checkOptions, describe } from '@detailflow/core';
import { type LoadOptions, load, Model, type ModelSource } from 'detailflow';
import { LocalImageModel } from './local-image-model';
import { RemoteImageModel, type RemoteOptions } from './remote-image-model';

/** Draws in this process. */
export interface LocalSettings
  extends Pick<LoadOptions, 'backend' | 'dtype' | 'families' | 'settings' | 'hub'> {
  /** What `load` of the package `detailflow` takes, loaded with the first call; or a model that is loaded. */
  readonly model: ModelSource | Model;
  /** What `image()` calls it; default: `model` where that is a text, else `detailflow`. */
  readonly name?: string;
}

/** Has a server draw. */
export interface RemoteSettings {
  /** Of a server that speaks OpenAI's Images API, such as `detailflow serve`: `http://127.0.0.1:8080/v1`. */
  readonly baseURL: string;
  /** Default: the environment's DETAILFLOW_API_KEY, if any. */
  readonly apiKey?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Pictures that one request asks for, 1 to 10; larger calls take several. Default 10, the most of the Images API. */
  readonly picturesPerRequest?: number;
  /** What sends the requests; default: that of the platform. */
  readonly fetch?: typeof globalThis.fetch;
}

/** Pictures of one request, as OpenAI bounds them. */
const MOST_PER_REQUEST = 10;

/** A provider of the AI SDK for image models. */
export interface DetailFlowProvider extends ProviderV3 {
  /**
   * An image model.
   * @param modelId in this process the name of the model, which may be left out; of a server one that it serves
   */
  image(modelId?: string): LocalImageModel | RemoteImageModel;
  /** The same as `image`, as the AI SDK names it. */
  imageModel(modelId: string): LocalImageModel | RemoteImageModel;
  /** Frees the model, if this provider has loaded it. */
  dispose(): Promise<void>;
  /** The same as `dispose`, for `await using`. */
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * Makes a provider: of a model in this process, or of those of a server.
 * @throws InvalidArgumentError for settings that are neither, or both; DetailFlowError `invalid-argument` for unknown ones
 * @see https://detailflow.github.io/detailflow-ts/guide/ai-sdk.html
 */
export function createDetailFlow(settings: LocalSettings | RemoteSettings): DetailFlowProvider {
  const isObject = typeof settings === 'object' && settings !== null;
  const [hasModel, hasAddress] = ['model', 'baseURL'].map((name) => isObject && name in settings);
  if (hasModel === hasAddress) {
    throw new InvalidArgumentError({
      argument: 'settings',
      message: 'give either model, to draw in this process, or baseURL, to have a server draw',
    });
  }
  return hasModel ? localProvider(settings as LocalSettings) : remoteProvider(settings as RemoteSettings);
}

function localProvider(settings: LocalSettings): DetailFlowProvider {
  checkOptions<LocalSettings>('createDetailFlow', settings, {
    ...{ model: true, name: true, backend: true, dtype: true, families: true, settings: true, hub: true },
  });
  const { model, name, ...options } = settings;
  if (model === '' || (typeof model !== 'string' && (typeof model !== 'object' || model === null))) {
    throw wrong('model', `is ${describe(model)}; give what load() takes, or a model that is loaded`);
  }
  if (name !== undefined && (typeof name !== 'string' || name === '')) {
    throw wrong('name', `is ${describe(name)}; give a text`);
  }
  const own = name ?? (typeof model === 'string' ? model : 'detailflow');
  let loaded: Promise<Model> | undefined;
  const open = (): Promise<Model> => {
    if (model instanceof Model) return Promise.resolve(model);
    loaded ??= load(model, options).catch((error) => {
      loaded = undefined; // the next call tries again
      throw error;
    });
    return loaded;
  };
  return provider({
    image(modelId = own) {
      if (modelId === own) return new LocalImageModel(own, open);
      const message = `there is no image model "${modelId}"; there is "${own}"`;
      throw new NoSuchModelError({ modelId, modelType: 'imageModel', message });
    },
    async dispose() {
      const one = loaded;
      loaded = undefined;
      await (await one?.catch(() => undefined))?.dispose();
    },
  });
}

function remoteProvider(settings: RemoteSettings): DetailFlowProvider {
  checkOptions<RemoteSettings>('createDetailFlow', settings, {
    ...{ baseURL: true, apiKey: true, headers: true, picturesPerRequest: true, fetch: true },
  });
  const { baseURL, picturesPerRequest = MOST_PER_REQUEST, fetch = globalThis.fetch } = settings;
  if (typeof fetch !== 'function') throw wrong('fetch', `is ${describe(fetch)}; give a function`);
  if (
    !Number.isInteger(picturesPerRequest) ||
    picturesPerRequest < 1 ||
    picturesPerRequest > MOST_PER_REQUEST
  ) {
    throw new InvalidArgumentError({
      argument: 'picturesPerRequest',
      message: `picturesPerRequest is ${picturesPerRequest}; give a whole number from 1 to ${MOST_PER_REQUEST}`,
    });
  }
  const apiKey = settings.apiKey ?? process.env.DETAILFLOW_API_KEY;
  // It is not quoted. Fetch would take what no header can carry for a fault of the network, to be tried again.
  if (apiKey !== undefined && (typeof apiKey !== 'string' || !/^[\x21-\x7e]*$/.test(apiKey))) {
    throw wrong('apiKey', 'is no key: give visible characters of ASCII, without spaces');
  }
  const options: RemoteOptions = {
    ...{ baseURL: checkedAddress(baseURL), apiKey: apiKey || undefined, picturesPerRequest, fetch },
    headers: checkedHeaders(settings.headers),
  };
  return provider({
    image(modelId) {
      if (modelId !== undefined && modelId !== '') return new RemoteImageModel(modelId, options);
      throw new NoSuchModelError({
        ...{ modelId: '', modelType: 'imageModel', message: 'say which model of the server is to draw' },
      });
    },
    async dispose() {},
  });
}

/** @throws InvalidArgumentError, which does not quote what may hold a password */
function checkedAddress(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const isRight =
    url && /^https?:$/.test(url.protocol) && url.username === '' && url.password === '' && !/[?#]/.test(text);
  if (isRight) return text.replace(/\/+$/, '');
  throw new InvalidArgumentError({
    argument: 'baseURL',
    message: 'baseURL must be an http or https address without password, such as http://127.0.0.1:8080/v1',
  });
}

/** @throws InvalidArgumentError for what is no record of texts, or what no request can carry; values are not quoted */
function checkedHeaders(given: unknown = {}): Readonly<Record<string, string>> {
  const isRecord =
    typeof given === 'object' && given !== null && !(given instanceof Headers) && !Array.isArray(given);
  try {
    const out: Record<string, string> = {};
    new Headers(isRecord ? (given as Record<string, string>) : {}).forEach((value, name) => {
      out[name] = value;
    });
    if (isRecord) return out;
  } catch {
    // said below
  }
  throw wrong('headers', 'must be an object of texts that a request can carry');
}

const wrong = (argument: string, problem: string) =>
  new InvalidArgumentError({ argument, message: `${argument} ${problem}` });

function provider({ image, dispose }: Pick<DetailFlowProvider, 'image' | 'dispose'>): DetailFlowProvider {
  const none = (modelType: 'languageModel' | 'embeddingModel') => (modelId: string) => {
    throw new NoSuchModelError({ modelId, modelType, message: 'DetailFlow has image models only' });
  };
  return {
    specificationVersion: 'v3',
    ...{ image, imageModel: image, dispose, [Symbol.asyncDispose]: dispose },
    languageModel: none('languageModel') as (modelId: string) => LanguageModelV3,
    embeddingModel: none('embeddingModel') as (modelId: string) => EmbeddingModelV3,
  };
}
