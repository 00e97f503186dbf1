import { readFileSync } from 'node:fs';
import path from 'node:path';
import { type Picture, Tensor } from '@detailflow/core';
import { type Model, pictureFromPixels } from 'detailflow';
import OpenAI, { toFile } from 'openai';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadServed, type Served, startServed, until } from './served';

let model: Model;
let served: Served;
beforeAll(async () => {
  model = await loadServed();
  served = await startServed(model, { pictures: 4, queue: 6, most: 8 });
});
afterAll(async () => {
  await served.server.close();
  await model.dispose();
});

const bytesOf = (base64: string | undefined) => Buffer.from(base64 ?? '', 'base64');

/** The pixels that the facade draws, RGBA. */
async function drawn(options: Parameters<Model['generate']>[0]): Promise<Picture> {
  let pixels: Awaited<ReturnType<Model['decode']>> | undefined;
  for await (const step of model.generate(options)) {
    if (step.count === step.total) pixels = await step.pixels();
  }
  if (!pixels) throw new Error('nothing was drawn');
  return pictureFromPixels(pixels);
}

const pixelsOf = async (file: Buffer) =>
  sharp(file).ensureAlpha().raw().toBuffer({ resolveWithObject: true });

/** An event of a stream with the fields that are ours. */
type Event = {
  type: string;
  b64_json: string;
  size: string;
  seed: number;
  class: number;
  image_index?: number;
} & {
  partial_image_index?: number;
};

const names = JSON.parse(
  readFileSync(path.join(import.meta.dirname, '../packages/model-fashion-32/model/config.json'), 'utf8'),
).classNames as string[];

describe('the official client', () => {
  test('lists the model', async () => {
    const { data } = await served.client.models.list();
    expect(data).toHaveLength(1);
    const [one] = data;
    expect(one).toMatchObject({ object: 'model', owned_by: 'detailflow', classes: 10, class_names: names });
    expect(await served.client.models.retrieve(one.id)).toEqual(one);
    await expect(served.client.models.retrieve('dall-e-2')).rejects.toMatchObject({
      status: 404,
      code: 'model_not_found',
    });
  });

  test('gets the pictures that the library draws', async () => {
    const answer = await served.client.images.generate({ prompt: names[9], n: 3, ...{ seed: 11, cfg: 2 } });
    expect(answer).toMatchObject({
      output_format: 'png',
      usage: { input_tokens: 0 },
      created: expect.any(Number),
    });
    expect(answer.data).toHaveLength(3);
    for (const [i, { b64_json }] of (answer.data ?? []).entries()) {
      const { data, info } = await pixelsOf(bytesOf(b64_json));
      const expected = await drawn({ labels: [9], seed: 11 + i, cfg: 2 });
      expect(`${info.width}x${info.height}`).toBe(answer.size);
      expect(new Uint8ClampedArray(data)).toEqual(expected.data);
    }
  });

  test('draws a picture again by the seed that the answer names', async () => {
    const ask = async (more: object) => {
      const answer = await served.client.images.generate({ prompt: ` ${names[2].toUpperCase()} `, ...more });
      return answer.data?.[0] as { b64_json: string; seed: number; class: number };
    };
    const first = await ask({});
    expect(first.class).toBe(2);
    expect((await ask({ seed: first.seed })).b64_json).toBe(first.b64_json);
    expect((await ask({ seed: first.seed + 1 })).b64_json).not.toBe(first.b64_json);
    expect((await ask({ seed: first.seed, class: '7' })).class).toBe(7);
  });

  test.each(['jpeg', 'webp', 'png'] as const)('gets %s', async (format) => {
    const compression = format === 'png' ? {} : { output_compression: 30 };
    const answer = await served.client.images.generate({
      prompt: '1',
      output_format: format,
      ...compression,
    });
    expect((await sharp(bytesOf(answer.data?.[0].b64_json)).metadata()).format).toBe(format);
    expect(answer.output_format).toBe(format);
  });

  test('gets smaller pictures by size and by tokens', async () => {
    const sizes = new Set<string>();
    for (const more of [{ size: 'auto' }, { size: '16x16' }, { ...{ tokens: 4 } }] as const) {
      const answer = await served.client.images.generate({
        prompt: '1',
        seed: 3,
        ...more,
      } as object as OpenAI.ImageGenerateParamsNonStreaming);
      const { width, height } = await sharp(bytesOf(answer.data?.[0].b64_json)).metadata();
      expect(`${width}x${height}`).toBe(answer.size);
      sizes.add(`${width}`);
    }
    expect(sizes.size).toBeGreaterThan(1);
    expect(sizes).toContain('16');
  });

  test('sees pictures sharpen, each of several by its index', async () => {
    const stream = await served.client.images.generate({
      prompt: names[5],
      n: 2,
      stream: true,
      partial_images: 3,
      ...{ seed: 4 },
    });
    const events: Event[] = [];
    for await (const event of stream) events.push(event as unknown as Event);
    for (const index of [0, 1]) {
      const own = events.filter((event) => event.image_index === index);
      expect(own.map(({ type }) => type.split('.')[1])).toEqual([
        ...Array(3).fill('partial_image'),
        'completed',
      ]);
      expect(own.map((event) => event.partial_image_index)).toEqual([0, 1, 2, undefined]);
      const sides = own.map(({ size }) => Number.parseInt(size, 10));
      expect(sides).toEqual([...new Set(sides)].sort((a, b) => a - b));
      for (const { b64_json, size, seed } of own) {
        const { width, height } = await sharp(bytesOf(b64_json)).metadata();
        expect([`${width}x${height}`, seed]).toEqual([size, 4 + index]);
      }
      const { data } = await pixelsOf(bytesOf(own[3].b64_json));
      expect(new Uint8ClampedArray(data)).toEqual((await drawn({ labels: [5], seed: 4 + index })).data);
    }
  });

  test.each([0, 1, 2])('gets %i previews where it asks for so many', async (count) => {
    const stream = await served.client.images.generate({ prompt: '3', stream: true, partial_images: count });
    const types: string[] = [];
    for await (const event of stream) {
      types.push(event.type);
      expect(event).not.toHaveProperty('image_index');
    }
    expect(types).toEqual([
      ...Array(count).fill('image_generation.partial_image'),
      'image_generation.completed',
    ]);
  });

  test('varies and edits pictures', async () => {
    const answer = await served.client.images.generate({ prompt: '9', ...{ seed: 2 } });
    const original = bytesOf(answer.data?.[0].b64_json);
    const image = () => toFile(original, 'boot.png', { type: 'image/png' });
    const { data, info } = await pixelsOf(original);
    const pixels = Float32Array.from({ length: 3 * info.width ** 2 }, (_, i) => {
      const plane = info.width ** 2;
      return data[(i % plane) * 4 + Math.floor(i / plane)] / 127.5 - 1;
    });
    const images = new Tensor('float32', pixels, [1, 3, info.width, info.height]);

    const varied = await served.client.images.createVariation({
      image: await image(),
      n: 2,
      ...{ keep: 6, seed: 40 },
    });
    let expected: Picture[] = [];
    for await (const step of model.vary(images, { keepTokens: 6, count: 2, seed: 40 })) {
      const both = await step.pixels();
      expected = [pictureFromPixels(both, 0), pictureFromPixels(both, 1)];
    }
    for (const [i, one] of (varied.data ?? []).entries()) {
      expect(new Uint8ClampedArray((await pixelsOf(bytesOf(one.b64_json))).data)).toEqual(expected[i].data);
    }
    expect(varied.usage).toMatchObject({ input_tokens: 12 });

    const stream = await served.client.images.edit({
      ...{ image: [await image()], prompt: names[7], stream: true, partial_images: 1, keep: '4', seed: '8' },
    } as OpenAI.ImageEditParamsStreaming);
    const types: string[] = [];
    for await (const event of stream) types.push(event.type);
    expect(types).toEqual(['image_edit.partial_image', 'image_edit.completed']);
    const mask = toFile(original, 'mask.png', { type: 'image/png' });
    await expect(
      served.client.images.edit({ image: await image(), mask: await mask, prompt: '7' }),
    ).rejects.toMatchObject({
      ...{ status: 400, param: 'mask' },
      message: expect.stringContaining('no places'),
    });
  });

  test('hears of wrong fields by their names', async () => {
    const { images } = served.client;
    const cases: [object, string | null, number][] = [
      [{ prompt: '' }, 'prompt', 400],
      [{ prompt: 'zebra' }, 'prompt', 400],
      [{ prompt: '11' }, 'prompt', 400],
      [{ class: 11 }, 'class', 400],
      [{ class: -1 }, 'class', 400],
      [{ prompt: '1', n: 0 }, 'n', 400],
      [{ prompt: '1', n: 9 }, 'n', 400],
      [{ prompt: '1', n: 1.5 }, 'n', 400],
      [{ prompt: '1', size: '1024x1024' }, 'size', 400],
      [{ prompt: '1', response_format: 'url' }, 'response_format', 400],
      [{ prompt: '1', partial_images: 4, stream: true }, 'partial_images', 400],
      [{ prompt: '1', partial_images: 2 }, 'partial_images', 400],
      [{ prompt: '1', background: 'transparent' }, 'background', 400],
      [{ prompt: '1', output_compression: 50 }, 'output_compression', 400],
      [{ prompt: '1', tokens: 100_000 }, 'tokens', 400],
      [{ prompt: '1', sed: 3 }, 'sed', 400],
      [{ prompt: '1', seed: -1 }, 'seed', 400],
      [{ prompt: '1', temperature: 0 }, 'temperature', 400],
      [{ prompt: '1', topP: 2 }, 'topP', 400],
      [{ prompt: '1', guidance: 'sideways' }, 'guidance', 400],
      [{ prompt: '1', model: 'gpt-image-1' }, 'model', 404],
    ];
    for (const [fields, param, status] of cases) {
      const thrown = await images.generate(fields as never).catch((error: unknown) => error);
      expect([fields, thrown]).toEqual([fields, expect.any(OpenAI.APIError)]);
      expect([fields, thrown]).toMatchObject([fields, { status, param, requestID: expect.any(String) }]);
    }
  });

  test('hears inside the stream of what goes wrong there, and no more than it should know', async () => {
    const { tokenizer } = model;
    let pictures = 0;
    const broken = new Proxy(tokenizer, {
      get(target, name) {
        if (name === 'decode' && ++pictures > 2) throw new Error('the weights at /secret/place are gone');
        const value = Reflect.get(target, name, target);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
    const { family, tokenModel, cfg } = model;
    const other = await startServed({ family, tokenModel, cfg, tokenizer: broken });
    const stream = await other.client.images.generate({ prompt: '1', stream: true, partial_images: 2 });
    const types: string[] = [];
    const read = async () => {
      for await (const { type } of stream) types.push(type);
    };
    const thrown = await read().catch((error: unknown) => error);
    expect(types).toEqual(['image_generation.partial_image']);
    expect(thrown).toMatchObject({ type: 'server_error', code: 'internal_error' });
    expect(String((thrown as Error).message)).not.toContain('/secret/place');
    await until(() => other.log.some(({ event }) => event === 'stream'));
    expect(other.log.at(-1)).toMatchObject({
      level: 'error',
      outcome: 'failed',
      reason: expect.stringContaining('weights'),
    });
    expect(await other.count('detailflow_pictures_total{outcome="failed"}')).toBe(1);
    await expect(other.client.images.generate({ prompt: '1' })).rejects.toMatchObject({ status: 500 });
    await other.server.close();
  });

  test('gives its places back by leaving', async () => {
    const before = await served.count('detailflow_pictures_total{outcome="cancelled"}');
    const stream = await served.client.images.generate({
      prompt: '1',
      n: 8,
      stream: true,
      partial_images: 3,
    });
    for await (const _ of stream) break;
    const controller = new AbortController();
    const whole = served.client.images.generate({ prompt: '1', n: 2 }, { signal: controller.signal });
    await until(async () => (await served.count('detailflow_pictures_running')) > 0);
    controller.abort();
    await expect(whole).rejects.toThrow();
    await until(async () => (await served.count('detailflow_pictures_running')) === 0);
    expect(await served.count('detailflow_pictures_waiting')).toBe(0);
    expect(await served.count('detailflow_pictures_total{outcome="cancelled"}')).toBeGreaterThan(before);
    expect((await served.client.images.generate({ prompt: '1', n: 8 })).data).toHaveLength(8);
  });

  test('is told to come again when the queue is full, and comes by itself', async () => {
    const { client } = served;
    const before = await served.count('detailflow_pictures_total{outcome="refused"}');
    const all = await Promise.allSettled(
      Array.from({ length: 6 }, () => client.images.generate({ prompt: '1', n: 5 })),
    );
    const refused = all.flatMap((one) => (one.status === 'rejected' ? [one.reason] : []));
    expect(refused.length).toBe(4);
    for (const error of refused) {
      expect(error).toMatchObject({ status: 429, code: 'queue_full', type: 'rate_limit_error' });
      expect(Number(error.headers.get('retry-after'))).toBeGreaterThan(0);
    }
    expect(await served.count('detailflow_pictures_total{outcome="refused"}')).toBe(before + 20);
    const patient = client.withOptions({ maxRetries: 20 });
    const drawn = await Promise.all(
      Array.from({ length: 4 }, () => patient.images.generate({ prompt: '1', n: 5 })),
    );
    for (const { data } of drawn) expect(data).toHaveLength(5);
  });
});

test('the document of the API names every route and field', async () => {
  const document = await (await fetch(`${served.url}/openapi.json`)).json();
  expect(document.openapi).toBe('3.1.0');
  expect(Object.keys(document.paths).sort()).toEqual([
    ...[
      '/health',
      '/metrics',
      '/ready',
      '/v1/images/edits',
      '/v1/images/generations',
      '/v1/images/variations',
    ],
    ...['/v1/models', '/v1/models/{model}'],
  ]);
  const { properties, additionalProperties } = document.components.schemas.ImageGeneration;
  expect(Object.keys(properties)).toEqual(
    expect.arrayContaining(['prompt', 'class', 'seed', 'cfg', 'tokens', 'topK']),
  );
  expect(additionalProperties).toBe(false);
});

test('the page is one file that asks this server alone', async () => {
  const answer = await fetch(served.url);
  const text = await answer.text();
  expect(answer.headers.get('content-security-policy')).toContain("default-src 'none'");
  expect(text).not.toMatch(/https?:\/\/|\bsrc="|@import/);
  expect(text).toContain('v1/images/generations');
});

test('answers carry the id of the request, and the log what became of it', async () => {
  const id = 'my-request:7';
  const answer = await fetch(`${served.url}/v1/images/generations`, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      'x-request-id': id,
      authorization: 'Bearer very-secret-thing',
    },
    body: JSON.stringify({ prompt: names[0], user: 'somebody', ...{ seed: 1 } }),
  });
  expect([answer.status, answer.headers.get('x-request-id')]).toEqual([200, id]);
  const foreign = await fetch(`${served.url}/nowhere?key=very-secret-thing`, {
    headers: { 'x-request-id': 'a b\tc' },
  });
  expect(foreign.headers.get('x-request-id')).toMatch(/^[0-9a-f-]{36}$/);
  expect(await foreign.json()).toMatchObject({ error: { code: 'not_found', type: 'invalid_request_error' } });
  const line = served.log.find((entry) => entry.id === id);
  expect(line).toMatchObject({
    level: 'info',
    event: 'request',
    status: 200,
    route: '/v1/images/generations',
  });
  expect(JSON.stringify(served.log)).not.toMatch(/very-secret-thing|somebody/);
});
