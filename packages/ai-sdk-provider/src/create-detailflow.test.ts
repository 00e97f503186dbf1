import { createHash } from 'node:crypto';
import {
  APICallError,
  InvalidArgumentError,
  InvalidPromptError,
  InvalidResponseDataError,
  NoSuchModelError,
  UnsupportedFunctionalityError,
} from '@ai-sdk/provider';
import { generateImage } from 'ai';
import { load, type Model, pictureFromPixels } from 'detailflow';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createDetailFlow, type DetailFlowProvider } from './create-detailflow';
import { startImagesApi, type TestImagesApi } from './test-images-api';

const KEY = 'a-secret-key';
let model: Model;
let api: TestImagesApi;
beforeAll(async () => {
  model = await load('@detailflow/model-fashion-32');
  api = await startImagesApi(model, KEY);
});
beforeEach(() => {
  api.seen.length = 0;
  api.answers.length = 0;
  api.hang = false;
});
afterAll(async () => {
  await api?.close();
  await model?.dispose();
});

const digest = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
const digests = (found: { images: { uint8Array: Uint8Array }[] }) =>
  found.images.map(({ uint8Array }) => digest(uint8Array));
const side = (png: Uint8Array) => [Buffer.from(png).readUInt32BE(16), Buffer.from(png).readUInt32BE(20)];

/** What `generate` of the model draws. */
async function drawn(labels: number[], seed: number, options: object = {}): Promise<string[]> {
  for await (const step of model.generate({ labels, seed, ...options })) {
    if (step.count < step.total) continue;
    const pixels = await step.pixels();
    return Promise.all(labels.map(async (_, i) => digest(await pictureFromPixels(pixels, i).toPng())));
  }
  throw new Error('no step');
}

const settings = {
  'in this process': () => ({ model }),
  'by a server': () => ({ baseURL: `${api.url}/`, apiKey: KEY }),
};

describe.each(Object.entries(settings))('%s', (place, settingsOf) => {
  let provider: DetailFlowProvider;
  beforeEach(() => {
    provider = createDetailFlow(settingsOf());
  });
  const image = () => provider.image(place === 'by a server' ? 'fashion' : undefined);

  test('a class, a seed and options give the pictures that generate draws', async () => {
    const found = await generateImage({ model: image(), prompt: 'bag', seed: 7, n: 3 });
    expect(digests(found)).toEqual(await drawn([8, 8, 8], 7));
    expect(found.images.map(({ mediaType }) => mediaType)).toEqual(Array(3).fill('image/png'));
    expect(found.warnings).toEqual([]);
    expect(found.providerMetadata.detailflow.images).toMatchObject([{ seed: 7 }, { seed: 8 }, { seed: 9 }]);
    const coarse = await generateImage({
      ...{ model: image(), prompt: 'bag', seed: 3 },
      providerOptions: { detailflow: { cfg: 2, tokens: 8 } },
    });
    expect(digests(coarse)).toEqual(await drawn([8], 3, { cfg: 2, tokens: 8 }));
  });

  test('without a seed pictures differ, and their seeds are told', async () => {
    const [one, two] = [
      await generateImage({ model: image(), prompt: 'bag' }),
      await generateImage({ model: image(), prompt: 'bag' }),
    ];
    expect(digests(one)).not.toEqual(digests(two));
    const [{ seed }] = one.providerMetadata.detailflow.images as { seed: number }[];
    expect(digests(one)).toEqual(await drawn([8], seed));
  });

  test('more pictures than go together are all different', async () => {
    const found = await generateImage({
      ...{ model: image(), prompt: 'bag', seed: 0, n: 21 },
      providerOptions: { detailflow: { tokens: 8 } },
    });
    expect(digests(found)).toEqual(await drawn(Array(21).fill(8), 0, { tokens: 8 }));
    expect(new Set(digests(found)).size).toBe(21);
  });

  test('a picture that is given is varied', async () => {
    const { image: original } = await generateImage({ model: image(), prompt: 'bag', seed: 1 });
    const vary = (keep: number) =>
      generateImage({
        ...{ model: image(), prompt: { images: [original.uint8Array], text: 'bag' }, seed: 4, n: 2 },
        providerOptions: { detailflow: { keep } },
      });
    const [few, all] = [await vary(4), await vary(64)];
    expect(new Set(digests(few)).size).toBe(2);
    expect(new Set(digests(all)).size).toBe(1); // nothing of it is drawn anew
  });

  test('wrong calls are errors of the SDK', async () => {
    const call = (options: object) =>
      generateImage({ model: image(), prompt: 'bag', maxRetries: 0, ...options });
    const own = (detailflow: object) => call({ providerOptions: { detailflow } });
    for (const options of [
      { cfg: 'x' },
      { cfg: -1 },
      { topP: 2 },
      { topK: 1.5 },
      { temperature: 0 },
      { Tokens: 3 },
    ]) {
      await expect(own(options), JSON.stringify(options)).rejects.toSatisfy(InvalidArgumentError.isInstance);
    }
    await expect(own({ tokns: 3 })).rejects.toThrow(/tokens/);
    await expect(call({ seed: -1 })).rejects.toSatisfy(InvalidArgumentError.isInstance);
    await expect(call({ seed: 0.5 })).rejects.toSatisfy(InvalidArgumentError.isInstance);
    const pictures = [new Uint8Array(4), new Uint8Array(4)];
    await expect(call({ prompt: { images: pictures, text: 'bag' } })).rejects.toSatisfy(
      UnsupportedFunctionalityError.isInstance,
    );
    expect(() => provider.languageModel('x')).toThrow(NoSuchModelError);
    const { warnings } = await call({
      aspectRatio: '16:9',
      providerOptions: { detailflow: { keep: 1, tokens: 1 } },
    });
    expect(warnings.map((one) => 'feature' in one && one.feature).sort()).toEqual(['aspectRatio', 'keep']);
  });

  test('an aborted call ends at once with the reason', async () => {
    api.hang = true;
    const controller = new AbortController();
    const call = generateImage({
      ...{ model: image(), prompt: 'bag', n: 64, abortSignal: controller.signal },
    });
    setTimeout(() => controller.abort(), 50);
    await expect(call).rejects.toMatchObject({ name: 'AbortError' });
    const before = AbortSignal.abort(new Error('never mind'));
    await expect(generateImage({ model: image(), prompt: 'bag', abortSignal: before })).rejects.toThrow();
  });
});

describe('in this process', () => {
  test('the model is loaded by the first call, once, and freed by the provider', async () => {
    await using provider = createDetailFlow({ model: '@detailflow/model-fashion-32', dtype: 'q8' });
    const one = provider.image('@detailflow/model-fashion-32');
    expect(one).toMatchObject({ specificationVersion: 'v3', provider: 'detailflow' });
    const options = { model: one, seed: 2, providerOptions: { detailflow: { tokens: 4 } } };
    const [first, second] = await Promise.all([
      generateImage({ ...options, prompt: '8' }),
      generateImage({ ...options, prompt: ' Bag ' }),
    ]);
    expect(digests(first)).toEqual(digests(second));
    expect(() => provider.image('another')).toThrow(NoSuchModelError);
    const missing = createDetailFlow({ model: '/no/such/folder' });
    await expect(generateImage({ model: missing.image(), prompt: '1' })).rejects.toMatchObject({
      name: 'DetailFlow_io',
      message: expect.stringContaining('/no/such/folder'),
    });
  });

  test('sizes that the model draws are drawn; others are warned of', async () => {
    const one = createDetailFlow({ model }).image();
    const call = (size: `${number}x${number}`) => generateImage({ model: one, prompt: 'bag', seed: 1, size });
    const small = model.tokenizer.resolution(1);
    const [whole, coarse, odd] = [await call('32x32'), await call(`${small}x${small}`), await call('64x48')];
    expect(side(whole.image.uint8Array)).toEqual([32, 32]);
    expect(side(coarse.image.uint8Array)).toEqual([small, small]);
    expect([whole.warnings, coarse.warnings]).toEqual([[], []]);
    expect(side(odd.image.uint8Array)).toEqual([32, 32]);
    expect(odd.warnings).toEqual([
      { type: 'unsupported', feature: 'size', details: expect.stringMatching(/32x32/) },
    ]);
  });

  test('no class, no picture, and a mask are refused', async () => {
    const one = createDetailFlow({ model, name: 'fashion' }).image('fashion');
    const call = (prompt: Parameters<typeof generateImage>[0]['prompt']) =>
      generateImage({ model: one, prompt, maxRetries: 0 });
    for (const prompt of ['bagg', '10', '', '-1']) {
      await expect(call(prompt), prompt).rejects.toSatisfy(InvalidPromptError.isInstance);
    }
    await expect(call('bagg')).rejects.toThrow(/"bag"/);
    await expect(call({ images: [new Uint8Array(9)], text: 'bag' })).rejects.toSatisfy(
      InvalidArgumentError.isInstance,
    );
    const png = (await generateImage({ model: one, prompt: 'bag', seed: 1 })).image.uint8Array;
    await expect(call({ images: [png], mask: png, text: 'bag' })).rejects.toSatisfy(
      UnsupportedFunctionalityError.isInstance,
    );
    const more = generateImage({
      ...{ model: one, prompt: 'bag', maxRetries: 0 },
      providerOptions: { detailflow: { tokens: 65 } },
    });
    await expect(more).rejects.toThrow(/has 64 tokens/);
  });
});

describe('by a server', () => {
  const remote = (apiKey = KEY) => createDetailFlow({ baseURL: api.url, apiKey, headers: { 'x-one': '1' } });
  const call = (options: object = {}) =>
    generateImage({ model: remote().image('fashion'), prompt: 'bag', seed: 1, maxRetries: 0, ...options });

  test('requests are those of the Images API, at most ten pictures each', async () => {
    await call({ n: 12, providerOptions: { detailflow: { tokens: 1, topK: 5 } }, headers: { 'x-two': '2' } });
    expect(api.seen.map(({ path, fields }) => [path, fields])).toEqual(
      [
        { n: 10, seed: 1 },
        { n: 2, seed: 11 },
      ].map((part) => [
        '/v1/images/generations',
        { model: 'fashion', prompt: 'bag', response_format: 'b64_json', topK: 5, tokens: 1, ...part },
      ]),
    );
    expect(api.seen[0].headers).toMatchObject({ 'x-one': '1', 'x-two': '2', authorization: `Bearer ${KEY}` });
    const png = (await call()).image.uint8Array;
    api.seen.length = 0;
    await call({ prompt: { images: [png], text: 'bag' } });
    await expect(call({ prompt: { images: [png], mask: png, text: 'bag' } })).rejects.toThrow(
      /have no places/,
    );
    expect(api.seen.map(({ path, fields }) => [path, fields.class, fields.prompt])).toEqual([
      ['/v1/images/variations', undefined, 'bag'],
      ['/v1/images/edits', undefined, 'bag'],
    ]);
  });

  test('errors say what the server says, and those that may pass are tried again', async () => {
    await expect(call({ prompt: 'x' })).rejects.toMatchObject({ statusCode: 400, isRetryable: false });
    const refused = generateImage({ model: remote('wrong').image('fashion'), prompt: 'bag', maxRetries: 0 });
    await expect(refused).rejects.toMatchObject({ statusCode: 401, message: 'a key is missing' });
    const busy = { status: 429, headers: { 'retry-after-ms': '1' }, body: '{"error":{"message":"busy"}}' };
    api.answers.push(busy);
    await expect(call()).rejects.toSatisfy((error) => APICallError.isInstance(error) && error.isRetryable);
    api.seen.length = 0;
    api.answers.push(busy, busy);
    const found = await call({ maxRetries: 2 });
    expect(digests(found)).toEqual(await drawn([8], 1));
    expect(api.seen).toHaveLength(3);
    const away = createDetailFlow({ baseURL: 'http://127.0.0.1:1/v1', apiKey: KEY });
    const gone = generateImage({ model: away.image('fashion'), prompt: 'bag', maxRetries: 0 });
    const error = await gone.catch((thrown) => thrown);
    expect(error).toMatchObject({ message: expect.stringMatching(/cannot be reached/), isRetryable: true });
    expect(JSON.stringify(error)).not.toContain(KEY);
  });

  test.each([
    ['no JSON', '<html>'],
    ['no data', '{}'],
    ['too few', '{"data":[]}'],
    ['too many', '{"data":[{"b64_json":"AAAA"},{"b64_json":"AAAA"}]}'],
    ['addresses', '{"data":[{"url":"http://x"}]}'],
    ['no base64', '{"data":[{"b64_json":"?"}]}'],
    ['numbers', '{"data":[{"b64_json":1}]}'],
    ['nothing', '{"data":[null]}'],
  ])('an answer with %s is none', async (_, body) => {
    api.answers.push({ status: 200, body });
    await expect(call()).rejects.toSatisfy(InvalidResponseDataError.isInstance);
  });
});

test.each([
  [{}],
  [null],
  [{ model: 'x', baseURL: 'http://x' }],
  [{ baseURL: 'ftp://x' }],
  [{ baseURL: 'http://me:secret@x' }],
  [{ baseURL: 'x' }],
  [{ baseURL: 'http://x', picturesPerRequest: 0 }],
  [{ baseURL: 'http://x', picturesPerRequest: 11 }],
  [{ baseURL: 'http://x', picturesPerRequest: 2.5 }],
])('%j makes no provider', (wrong) => {
  expect(() => createDetailFlow(wrong as never)).toThrow(InvalidArgumentError);
  expect(() => createDetailFlow(wrong as never)).not.toThrow(/secret/);
});

test.each<[object, string]>([
  [{ model: undefined }, 'model'],
  [{ model: 5 }, 'model'],
  [{ model: '' }, 'model'],
  [{ model: 'x', name: 5 }, 'name'],
  [{ model: 'x', name: '' }, 'name'],
  [{ baseURL: 'http://127.0.0.1/v1', apiKey: 5 }, 'apiKey'],
  [{ baseURL: 'http://127.0.0.1/v1', apiKey: 'se\ncret' }, 'apiKey'],
  [{ baseURL: 'http://127.0.0.1/v1', headers: 'x' }, 'headers'],
  [{ baseURL: 'http://127.0.0.1/v1', headers: null }, 'headers'],
  [{ baseURL: 'http://127.0.0.1/v1', headers: new Headers({ 'x-a': '1' }) }, 'headers'], // spread, it is empty
  [{ baseURL: 'http://127.0.0.1/v1', headers: { 'x-a': 'se\ncret' } }, 'headers'],
  [{ baseURL: 'http://127.0.0.1/v1', fetch: 5 }, 'fetch'],
  [{ baseURL: 'http://127.0.0.1/v1#part' }, 'baseURL'], // what comes after # is not sent: every request would go to /v1
  ['http://127.0.0.1/v1' as never, 'settings'],
])('%o is no setting', (given, argument) => {
  let error: unknown;
  try {
    createDetailFlow(given as never);
  } catch (thrown) {
    error = thrown;
  }
  expect(error).toBeInstanceOf(InvalidArgumentError);
  expect(error).toMatchObject({ argument });
  expect(String(error)).not.toContain('se\ncret');
});

test.each<[object | undefined, string]>([
  [undefined, 'options'],
  [{ prompt: 5 }, 'prompt'],
  [{ size: 32 }, 'size'],
  [{ files: 5 }, 'files'],
  [{ files: [null] }, 'files'],
  [{ abortSignal: {} }, 'abortSignal'],
  [{ providerOptions: { detailflow: 5 } }, 'providerOptions.detailflow'],
  [{ providerOptions: { detailflow: [] } }, 'providerOptions.detailflow'],
])('%o is no call', async (given, argument) => {
  const call = given && { prompt: 'bag', n: 1, seed: 1, providerOptions: {}, ...given };
  for (const one of [
    createDetailFlow({ model }).image(),
    createDetailFlow({ baseURL: api.url, apiKey: KEY }).image('fashion'),
  ]) {
    await expect(one.doGenerate(call as never)).rejects.toMatchObject({
      name: 'AI_InvalidArgumentError',
      argument,
    });
  }
  expect(api.seen).toEqual([]);
});

test('a header of a call takes the place of the one of the provider, however both are written', async () => {
  const provider = createDetailFlow({
    baseURL: api.url,
    apiKey: 'a-key-of-nobody',
    headers: { 'X-Who': 'provider' },
  });
  const headers = { Authorization: `Bearer ${KEY}`, 'x-who': 'call' };
  await generateImage({ model: provider.image('fashion'), prompt: 'bag', seed: 1, headers, maxRetries: 0 });
  expect(api.seen[0].headers).toMatchObject({ authorization: `Bearer ${KEY}`, 'x-who': 'call' });
});

test('a class is found by its name, whichever way its letters with marks are written', async () => {
  const card = { ...model.card, classNames: ['caf\u00e9', ...(model.card?.classNames?.slice(1) ?? [])] };
  const named = new Proxy(model, {
    get: (target, name) => {
      const value = name === 'card' ? card : Reflect.get(target, name, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
  const found = await createDetailFlow({ model: named })
    .image()
    .doGenerate({
      ...{ prompt: ' Cafe\u0301', n: 1, seed: 3, size: undefined, aspectRatio: undefined },
      ...{ files: undefined, mask: undefined, providerOptions: {} },
    });
  expect(found.images.map((one) => digest(one as Uint8Array))).toEqual(await drawn([0], 3));
});

test('unknown settings are refused', () => {
  expect(() => createDetailFlow({ model: 'x', dtypes: 'q8' } as never)).toThrow(/dtype/);
  expect(() => createDetailFlow({ baseURL: 'http://x', apikey: 'y' } as never)).toThrow(/apiKey/);
  expect(() => createDetailFlow({ baseURL: 'http://x' }).image()).toThrow(NoSuchModelError);
});
