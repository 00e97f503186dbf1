import { Tensor } from '@detailflow/core';
import { type ImageServerOptions, startImageServer } from '@detailflow/serve';
import { load, type Model, pictureFromPixels } from 'detailflow';
import { toFile } from 'openai';
import sharp from 'sharp';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { inRepository } from './cli';
import { loadServed, type Served, startServed, until } from './served';

// A small LlamaGen for texts behind the real server; its encoder is a formula of the letters.

const family = (name: string) => inRepository(`tests/fixtures/golden/family/llamagen/${name}`);
const [PLACES, WIDTH] = [6, 20];

type Encoder = NonNullable<ImageServerOptions['encodeText']>;

/** A row a letter, padded at the end as encoders do. */
function encoded(prompt: string, rows = PLACES) {
  const letters = [...prompt].slice(0, rows).map((one) => one.charCodeAt(0));
  const data = Float32Array.from({ length: rows * WIDTH }, (_, i) => {
    const [row, column] = [Math.floor(i / WIDTH), i % WIDTH];
    return Math.sin((letters[row] ?? 0) * (column + 1)) + row / 7;
  });
  const mask = Array.from({ length: rows }, (_, row) => BigInt(row < letters.length));
  return { features: { dims: [1, rows, WIDTH], data }, mask: { dims: [1, rows], data: mask } };
}
const plain: Encoder = async (prompt) => encoded(prompt);

let model: Model;
let served: Served | undefined;
beforeAll(async () => {
  model = await load({ tokenizer: family('vq'), ar: family('gpt_t2i') });
});
afterEach(async () => {
  await served?.server.close();
  served = undefined;
});
afterAll(() => model.dispose());

const start = async (
  encodeText: Encoder | undefined,
  options: Omit<ImageServerOptions, 'model' | 'log'> = {},
) => {
  served = await startServed(model, { ...(encodeText && { encodeText }), ...options });
  return served;
};

/** The text as `generate` takes it. */
function textOf(prompt: string) {
  const { features, mask } = encoded(prompt);
  const text = {
    features: new Tensor('float32', features.data, [PLACES, WIDTH]),
    mask: new Tensor('bool', Uint8Array.from(mask.data, Number), [PLACES]),
  };
  if (!model.text) throw new Error('the model has classes');
  return model.text.padded(text);
}

type Steps = ReturnType<Model['generate']>;
async function lastPicture(steps: Steps): Promise<Buffer> {
  let pixels: Awaited<ReturnType<Model['decode']>> | undefined;
  for await (const step of steps) if (step.count === step.total) pixels = await step.pixels();
  if (!pixels) throw new Error('nothing was drawn');
  return Buffer.from(pictureFromPixels(pixels).data);
}
const drawn = (prompt: string, seed: number) =>
  lastPicture(model.generate({ labels: [textOf(prompt)], seed }));
const pixelsOf = (base64: string | undefined) =>
  sharp(Buffer.from(base64 ?? '', 'base64'))
    .ensureAlpha()
    .raw()
    .toBuffer();

/** A request without a client of its own: what came back, whatever it is. */
async function ask(
  fields: object,
  { path = 'generations', signal }: { path?: string; signal?: AbortSignal } = {},
) {
  const answer = await fetch(`${served?.url}/v1/images/${path}`, {
    ...{ method: 'POST', headers: { 'content-type': 'application/json' } },
    ...{ body: JSON.stringify(fields), signal },
  });
  const text = await answer.text();
  return { status: answer.status, id: answer.headers.get('x-request-id'), text, body: JSON.parse(text) };
}

/** A promise that is settled from outside. */
function later<T = void>() {
  let resolve: (value: T) => void = () => {};
  const promise = new Promise<T>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}

describe('a prompt', () => {
  test('is told to be a text, by the list of models and by the document', async () => {
    const { url, client } = await start(plain, { promptLimit: 100 });
    const { data } = await client.models.list();
    expect(data[0]).toMatchObject({
      ...{ prompt: 'text', prompt_characters: 100, prompt_tokens: PLACES, text_encoder: true, classes: 0 },
      ...{ size: '16x16', image_width: 16, image_height: 16 },
    });
    const { components } = (await (await fetch(`${url}/openapi.json`)).json()) as {
      components: {
        schemas: Record<string, { properties: Record<string, { description: string; maxLength: number }> }>;
      };
    };
    const { prompt } = components.schemas.ImageGeneration.properties;
    expect(prompt).toMatchObject({ description: 'The text to draw for.', maxLength: 100 });
  });

  test('and a seed give the picture that generate() draws for its features', async () => {
    const { client } = await start(plain);
    for (const prompt of ['fox', 'a']) {
      const answer = await client.images.generate({ prompt, n: 2, ...{ seed: 7 } });
      const pictures = await Promise.all((answer.data ?? []).map((one) => pixelsOf(one.b64_json)));
      expect(pictures).toEqual([await drawn(prompt, 7), await drawn(prompt, 8)]);
      expect(answer.size).toBe('16x16');
      expect(answer.usage?.input_tokens_details).toEqual({ image_tokens: 0, text_tokens: prompt.length });
    }
    expect(await drawn('fox', 7)).not.toEqual(await drawn('owl', 7));
  });

  test('is drawn beside others in one running batch, and is the same picture there', async () => {
    const prompts = ['fox', 'owl', 'hen'];
    const all = later();
    let asked = 0;
    const together: Encoder = async (prompt) => {
      if (++asked === prompts.length) all.resolve();
      await all.promise;
      return encoded(prompt);
    };
    const { client, count } = await start(together, { pictures: 3, texts: 3 });
    const answers = await Promise.all(
      prompts.map((prompt) => client.images.generate({ prompt, ...{ seed: 3 } })),
    );
    for (const [i, { data }] of answers.entries()) {
      expect(await pixelsOf(data?.[0].b64_json)).toEqual(await drawn(prompts[i], 3));
    }
    const runs = await count('detailflow_run_pictures_count');
    expect(await count('detailflow_run_pictures_bucket{le="2"}')).toBeLessThan(runs);
  });

  test('is drawn in a stream, with previews', async () => {
    const { client } = await start(plain);
    const stream = await client.images.generate({
      ...{ prompt: 'fox', stream: true, partial_images: 2 },
      ...{ seed: 5 },
    });
    const events: { type: string; b64_json: string }[] = [];
    for await (const event of stream) events.push(event);
    expect(events.map(({ type }) => type)).toEqual([
      ...['image_generation.partial_image', 'image_generation.partial_image'],
      'image_generation.completed',
    ]);
    expect(await pixelsOf(events[2].b64_json)).toEqual(await drawn('fox', 5));
  });

  test('guides edits and variations, which may go without', async () => {
    const { client, url } = await start(plain);
    const { data } = await client.images.generate({ prompt: 'fox', ...{ seed: 1 } });
    const png = Buffer.from(data?.[0].b64_json ?? '', 'base64');
    const image = () => toFile(png, 'image.png', { type: 'image/png' });
    const pixels = await pixelsOf(data?.[0].b64_json);
    const planes = Float32Array.from(
      { length: 3 * 256 },
      (_, i) => pixels[(i % 256) * 4 + Math.floor(i / 256)] / 127.5 - 1,
    );
    const original = new Tensor('float32', planes, [1, 3, 16, 16]);
    const vary = (prompt: string | undefined, keepTokens: number) =>
      lastPicture(
        model.vary(original, {
          labels: prompt ? [textOf(prompt)] : undefined,
          keepTokens,
          count: 1,
          seed: 4,
        }),
      );
    const edited = await client.images.edit({
      ...{ image: await image(), prompt: 'owl' },
      ...({ seed: 4, keep: 8 } as object),
    });
    expect(
      await pixelsOf((edited as typeof edited & { data: { b64_json: string }[] }).data[0].b64_json),
    ).toEqual(await vary('owl', 8));
    for (const prompt of ['owl', undefined]) {
      const form = new FormData();
      form.set('image', await image());
      for (const [name, value] of Object.entries({ seed: '4', keep: '8', ...(prompt && { prompt }) }))
        form.set(name, value);
      const answer = await fetch(`${url}/v1/images/variations`, { method: 'POST', body: form });
      const { data: [one] = [] } = (await answer.json()) as { data?: { b64_json: string }[] };
      expect(await pixelsOf(one.b64_json)).toEqual(await vary(prompt, 8));
    }
  });

  test.each<[string, object, Partial<ImageServerOptions>, string, RegExp]>([
    ['is missing', {}, {}, 'prompt', /give the text to draw for/],
    ['is blank', { prompt: ' \n' }, {}, 'prompt', /give the text to draw for/],
    [
      'is longer than it may be',
      { prompt: 'x'.repeat(11) },
      { promptLimit: 10 },
      'prompt',
      /11 characters; 10/,
    ],
    [
      'has more tokens than places',
      { prompt: 'a longer text' },
      {},
      'prompt',
      /13 tokens; this model takes 6/,
    ],
    ['stands beside a class', { prompt: 'fox', class: 3 }, {}, 'class', /draws for texts and has no classes/],
  ])('that %s is refused', async (_name, fields, options, param, message) => {
    const { count } = await start(async (prompt) => encoded(prompt, prompt.length), options);
    const { status, body } = await ask(fields);
    expect([status, body.error]).toEqual([
      400,
      expect.objectContaining({ param, message: expect.stringMatching(message) }),
    ]);
    expect((await ask({ prompt: 'fox' })).status).toBe(200);
    expect(await count('detailflow_pictures_total{outcome="failed"}')).toBe(0);
  });

  test('is refused where nobody reads it, and it is said what to do', async () => {
    const { client } = await start(undefined);
    expect((await client.models.list()).data[0]).toMatchObject({ prompt: 'text', text_encoder: false });
    const { status, body } = await ask({ prompt: 'fox' });
    expect([status, body.error.code]).toEqual([400, 'no_text_encoder']);
    expect(body.error.message).toMatch(/--text-encoder FILE.*encodeText/);
  });
});

describe('an encoder', () => {
  const secret = 'password of the encoder';

  test.each<[string, Encoder, RegExp]>([
    ['throws', () => Promise.reject(new Error(secret)), /password/],
    [
      'throws at once',
      () => {
        throw new Error(secret);
      },
      /password/,
    ],
    ['gives nothing', (() => undefined) as never, /its features are missing/],
    ['gives a number', (() => 3) as never, /its features are missing/],
    ['gives no features', (() => ({ mask: { dims: [1], data: [1] } })) as never, /its features are missing/],
    [
      'gives rows of another width',
      () => ({ features: { dims: [2, 3], data: [1, 2, 3, 4, 5, 6] } }),
      /\[T, 20\].*3 columns/,
    ],
    [
      'gives too few numbers',
      () => ({ features: { dims: [2, WIDTH], data: [1, 2] } }),
      /\[2,20\] of 2 numbers/,
    ],
    [
      'gives two texts',
      () => ({ features: { dims: [2, 1, WIDTH], data: Array(2 * WIDTH).fill(1) } }),
      /\[2,1,20\]/,
    ],
    [
      'gives dims that are none',
      () => ({ features: { dims: [-1, -WIDTH], data: Array(WIDTH) } }),
      /\[-1,-20\]/,
    ],
    [
      'gives a mask of another length',
      () => ({ ...encoded('fox'), mask: { dims: [3], data: [1, 1, 1] } }),
      /mask is \[3\] of 3 numbers beside 6 rows/,
    ],
    ['masks everything', () => encoded(''), /no row belongs/],
    [
      'gives NaN',
      () => ({ features: { dims: [1, WIDTH], data: Array(WIDTH).fill(Number.NaN) } }),
      /NaN or infinities/,
    ],
    [
      'gives words',
      () => ({ features: { dims: [1, WIDTH], data: Array(WIDTH).fill('fox') } }),
      /NaN or infinities/,
    ],
  ])('that %s fails its request alone, and only the log says why', async (_name, wrong, reason) => {
    const { log, count } = await start(
      (prompt, options) => (prompt === 'bad' ? wrong(prompt, options) : plain(prompt, options)),
      {
        ...{ pictures: 2, texts: 2 },
      },
    );
    const [good, bad] = await Promise.all([ask({ prompt: 'fox', seed: 2 }), ask({ prompt: 'bad' })]);
    expect([good.status, bad.status, bad.body.error.code]).toEqual([200, 500, 'text_encoder_failed']);
    expect(await pixelsOf(good.body.data[0].b64_json)).toEqual(await drawn('fox', 2));
    expect(bad.text).not.toMatch(/password|\.ts|\.js|columns|numbers/);
    const entry = log.find((one) => one.event === 'request failed');
    expect(entry).toMatchObject({ id: bad.id, reason: expect.stringMatching(reason) });
    expect(await count('detailflow_pictures_total{outcome="failed"}')).toBe(1);
    expect((await ask({ prompt: 'owl' })).status).toBe(200);
  });

  test('hears that its request has left, and does not keep its place', async () => {
    const [asked, left] = [later(), later<unknown>()];
    const { count } = await start(
      (prompt, { signal }) =>
        prompt === 'slow'
          ? new Promise((_, reject) => {
              asked.resolve();
              signal.addEventListener('abort', () => {
                left.resolve(signal.reason);
                reject(signal.reason);
              });
            })
          : encoded(prompt),
      { pictures: 1, queue: 0 },
    );
    const controller = new AbortController();
    const gone = ask({ prompt: 'slow' }, { signal: controller.signal });
    await asked.promise;
    expect((await ask({ prompt: 'fox' })).status).toBe(429);
    controller.abort();
    await expect(gone).rejects.toMatchObject({ name: 'AbortError' });
    await left.promise;
    await until(async () => (await count('detailflow_pictures_total{outcome="cancelled"}')) === 1);
    expect((await ask({ prompt: 'fox' })).status).toBe(200);
  });

  test('works for so many at once, and for none that the queue has no room for', async () => {
    const hold = later();
    const asked: string[] = [];
    let [atOnce, most] = [0, 0];
    await start(
      async (prompt) => {
        asked.push(prompt);
        most = Math.max(most, ++atOnce);
        await hold.promise;
        atOnce--;
        return encoded(prompt);
      },
      { pictures: 1, queue: 4, texts: 2 },
    );
    const answers = ['a', 'b', 'c', 'd', 'e', 'f', 'g'].map((prompt) => ask({ prompt }));
    const refused = await Promise.race(answers);
    expect(refused.status).toBe(429);
    await until(() => asked.length === 2);
    hold.resolve();
    const statuses = (await Promise.all(answers)).map(({ status }) => status).sort();
    expect(statuses).toEqual([200, 200, 200, 200, 200, 429, 429]);
    expect([asked.length, most]).toEqual([5, 2]);
  });

  test('that takes too long is told so, and keeps its turn until it ends', async () => {
    const hold = later();
    const signals: AbortSignal[] = [];
    const { log } = await start(
      async (prompt, { signal }) => {
        signals.push(signal);
        if (prompt === 'slow') await hold.promise; // heeds no signal
        return encoded(prompt);
      },
      { textTimeout: 1 },
    );
    const late = await ask({ prompt: 'slow' });
    expect([late.status, late.body.error.code]).toEqual([503, 'text_encoder_timeout']);
    expect(signals[0].aborted).toBe(true);
    expect(log.find((one) => one.event === 'request failed')).toMatchObject({ id: late.id });
    const next = ask({ prompt: 'fox', seed: 2 });
    await until(() =>
      (served as Served).count('detailflow_pictures_total{outcome="failed"}').then((n) => n === 1),
    );
    expect(signals).toHaveLength(1);
    hold.resolve();
    expect(await pixelsOf((await next).body.data[0].b64_json)).toEqual(await drawn('fox', 2));
  });

  test('finishes when the server drains, and is ended when it closes', async () => {
    const [asked, hold] = [later(), later()];
    const { server } = await start(async (prompt) => {
      asked.resolve();
      await hold.promise;
      return encoded(prompt);
    });
    const answer = ask({ prompt: 'fox', seed: 2 });
    await asked.promise;
    const drained = server.drain(60);
    hold.resolve();
    expect((await answer).status).toBe(200);
    expect(await drained).toEqual({ pictures: 0, answers: 0 });

    const begun = later();
    let heard: AbortSignal | undefined;
    const other = await start((_prompt, { signal }) => {
      heard = signal;
      begun.resolve();
      return new Promise(() => {});
    });
    const ended = ask({ prompt: 'fox' });
    await begun.promise;
    await other.server.close();
    expect((await ended).body.error.code).toBe('server_closing');
    expect(heard?.aborted).toBe(true);
  });

  test('is for models of texts, a function, with limits that are some', async () => {
    const refused = (one: ImageServerOptions, code: string, text: string) =>
      expect(startImageServer({ ...one, port: 0 })).rejects.toMatchObject({
        ...{ code, message: expect.stringContaining(text) },
      });
    for (const name of ['texts', 'textTimeout', 'promptLimit']) {
      for (const value of [0, -1, 1.5, Number.NaN, '3'])
        await refused({ model, encodeText: plain, [name]: value }, 'invalid-argument', name);
    }
    await refused({ model, encodeText: 'fox' as never }, 'invalid-argument', 'encodeText');
    const { family: name, tokenizer, tokenModel, cfg } = model;
    await refused({ model: { family: name, tokenizer, tokenModel, cfg } }, 'unsupported', '"text"');
    const classes = await loadServed();
    await refused({ model: classes, encodeText: plain }, 'invalid-argument', 'has classes');
    await classes.dispose();
  });
});
