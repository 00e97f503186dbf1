import { createHash } from 'node:crypto';
import { createDetailFlow, type RemoteSettings } from '@detailflow/ai-sdk-provider';
import { generateImage } from 'ai';
import { type Model, pictureFromPixels } from 'detailflow';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { Gate } from './gate';
import { loadServed, type Served, startServed, until } from './served';

// The provider of the AI SDK over a server of ours: both ends as they are shipped.

const KEY = 'a-secret-key';
const NAME = 'fashion';
const BAG = 8;

let model: Model;
let served: Served;
beforeAll(async () => {
  model = await loadServed();
  served = await startServed(model, { keys: [KEY], name: NAME });
});
afterAll(async () => {
  await served.server.close();
  await model.dispose();
});

const digest = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
const digests = (found: { images: { uint8Array: Uint8Array }[] }) =>
  found.images.map(({ uint8Array }) => digest(uint8Array));

/** What `generate` of the model draws. */
async function drawn(count: number, seed: number, options: object = {}): Promise<string[]> {
  const labels = Array<number>(count).fill(BAG);
  for await (const step of model.generate({ labels, seed, ...options })) {
    if (step.count < step.total) continue;
    const pixels = await step.pixels();
    return Promise.all(labels.map(async (_, i) => digest(await pictureFromPixels(pixels, i).toPng())));
  }
  throw new Error('no step');
}

type Call = Omit<Partial<Parameters<typeof generateImage>[0]>, 'model'>;

const call = ({ url }: Served, options: Call = {}, settings: Partial<RemoteSettings> = {}) =>
  generateImage({
    model: createDetailFlow({ baseURL: `${url}/v1`, apiKey: KEY, ...settings }).image(NAME),
    ...{ prompt: 'bag', seed: 1, maxRetries: 0, ...options },
  });

describe('a provider over the server', () => {
  test('draws what generate draws', async () => {
    const found = await call(served, { seed: 7, n: 3 });
    expect(digests(found)).toEqual(await drawn(3, 7));
    expect(found.providerMetadata.detailflow.images).toMatchObject([{ seed: 7 }, { seed: 8 }, { seed: 9 }]);
    const coarse = await call(served, { seed: 3, providerOptions: { detailflow: { cfg: 2, tokens: 8 } } });
    expect(digests(coarse)).toEqual(await drawn(1, 3, { cfg: 2, tokens: 8 }));
    const other = await call(served, {
      providerOptions: { detailflow: { topK: 5, topP: 0.9, temperature: 0.8 } },
    });
    expect(digests(other)).toEqual(await drawn(1, 1, { topK: 5, topP: 0.9, temperature: 0.8 }));
  });

  test('has all of many pictures drawn, in several requests', async () => {
    const found = await call(served, { seed: 0, n: 21, providerOptions: { detailflow: { tokens: 8 } } });
    expect(digests(found)).toEqual(await drawn(21, 0, { tokens: 8 }));
  });

  test('has pictures varied, and says what the server says of a mask', async () => {
    const { image } = await call(served);
    const vary = (keep: number) =>
      call(served, {
        ...{ prompt: { images: [image.uint8Array], text: 'bag' }, seed: 4, n: 2 },
        providerOptions: { detailflow: { keep } },
      });
    expect(new Set(digests(await vary(4))).size).toBe(2);
    expect(new Set(digests(await vary(64))).size).toBe(1);
    const masked = { images: [image.uint8Array], mask: image.uint8Array, text: 'bag' };
    await expect(call(served, { prompt: masked })).rejects.toMatchObject({
      ...{ statusCode: 400, isRetryable: false, message: expect.stringContaining('no places') },
    });
  });

  test('says what the server says of wrong calls', async () => {
    const wrong: [Call, Partial<RemoteSettings>, number, RegExp][] = [
      [{ prompt: 'bagg' }, {}, 400, /"bag"/],
      [{ size: '48x48' }, {}, 400, /size/],
      [{ providerOptions: { detailflow: { tokens: 65 } } }, {}, 400, /tokens is 65/],
      [{ providerOptions: { detailflow: { guidance: 'sideways' } } }, {}, 400, /guidance/],
      [{}, { apiKey: 'not-the-key' }, 401, /key/],
    ];
    for (const [options, settings, statusCode, message] of wrong) {
      await expect(call(served, options, settings)).rejects.toMatchObject({
        ...{ statusCode, message: expect.stringMatching(message), isRetryable: false },
      });
    }
    const stranger = createDetailFlow({ baseURL: `${served.url}/v1`, apiKey: KEY }).image('another');
    await expect(generateImage({ model: stranger, prompt: 'bag', maxRetries: 0 })).rejects.toMatchObject({
      ...{ statusCode: 404, message: expect.stringContaining(NAME) },
    });
  });
});

describe('a provider over a server of its own', () => {
  let own: Served | undefined;
  afterEach(async () => {
    await own?.server.close();
    own = undefined;
  });

  test('that takes fewer pictures of a request hears so, and is told how many', async () => {
    own = await startServed(model, { name: NAME, most: 4 });
    await expect(call(own, { n: 6 })).rejects.toMatchObject({
      ...{ statusCode: 400, message: expect.stringMatching(/4 is the most here: set picturesPerRequest/) },
    });
    const options = { n: 6, providerOptions: { detailflow: { tokens: 8 } } };
    const found = await call(own, options, { picturesPerRequest: 4 });
    expect(digests(found)).toEqual(await drawn(6, 1, { tokens: 8 }));
  });

  test('that is full is asked again, and an aborted call leaves', async () => {
    const gate = new Gate();
    gate.open();
    const { family, tokenModel, cfg, card, tokenizer } = model;
    const gated = { family, tokenModel, cfg, card, tokenizer: gate.on(tokenizer, 'decode') };
    own = await startServed(gated, { name: NAME, pictures: 1, queue: 0 });
    const { count } = own;
    gate.close();
    const before = gate.calls;
    const controller = new AbortController();
    const first = call(own, { abortSignal: controller.signal });
    await until(() => gate.calls === before + 1); // drawn, and held before it is shown
    await expect(call(own)).rejects.toMatchObject({ statusCode: 429, isRetryable: true });
    const patient = call(own, { maxRetries: 5 });
    await until(async () => (await count('detailflow_pictures_total{outcome="refused"}')) >= 2);
    controller.abort();
    await expect(first).rejects.toMatchObject({ name: 'AbortError' });
    gate.open();
    expect(digests(await patient)).toEqual(await drawn(1, 1));
  });
});
