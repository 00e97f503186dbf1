import type { Model } from 'detailflow';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { connection, connections } from './connections';
import { loadServed, type Served, startServed, until } from './served';

const KEYS = ['first-key-of-two', 'second-key-of-two'];

let model: Model;
let served: Served;
beforeAll(async () => {
  model = await loadServed();
  served = await startServed(model, { keys: KEYS, bodyLimit: 300_000, headerTimeout: 1, connections: 400 });
});
afterAll(async () => {
  await served.server.close();
  await model.dispose();
});

const authorization = `Bearer ${KEYS[1]}`;

const post = (route: string, body: BodyInit, headers: Record<string, string> = {}) =>
  fetch(`${served.url}/v1/images/${route}`, {
    ...{ method: 'POST', body, duplex: 'half' },
    headers: { authorization, ...headers },
  } as RequestInit);

const json = { 'content-type': 'application/json' };

/** Draws a picture: the server lives, and nobody holds its places. */
async function expectAlive(): Promise<void> {
  const answer = await post('generations', JSON.stringify({ prompt: '1' }), json);
  expect(answer.status).toBe(200);
  expect((await answer.json()).data).toHaveLength(1);
  expect(await served.count('detailflow_pictures_running')).toBe(0);
}

/** An answer in OpenAI's form. */
async function refusal(answer: Response): Promise<{ status: number; code: string }> {
  expect(answer.headers.get('x-request-id')).toBeTruthy();
  const { error } = await answer.json();
  expect(Object.keys(error).sort()).toEqual(['code', 'message', 'param', 'type']);
  expect(error.message.length).toBeLessThan(1000);
  return { status: answer.status, code: error.code };
}

describe('keys', () => {
  test.each([
    [undefined, 401],
    ['', 401],
    ['Bearer', 401],
    ['Bearer first-key-of-tw', 401],
    ['Bearer first-key-of-two-and-more', 401],
    ['Basic first-key-of-two', 401],
    [`Bearer ${KEYS[0]}`, 200],
    [`bearer  ${KEYS[1]}`, 200],
  ])('%s gives %i', async (given, status) => {
    const headers: Record<string, string> = given === undefined ? {} : { authorization: given };
    for (const path of ['v1/models', 'metrics']) {
      const answer = await fetch(`${served.url}/${path}`, { headers });
      expect([path, answer.status]).toEqual([path, status]);
      if (status === 401) expect(answer.headers.get('www-authenticate')).toBe('Bearer');
    }
    const draws = await fetch(`${served.url}/v1/images/generations`, { method: 'POST', headers, body: '{' });
    expect(draws.status).toBe(status === 401 ? 401 : 415);
  });

  test('are not needed to ask whether the server lives, nor for its page', async () => {
    for (const path of ['', 'health', 'ready', 'openapi.json']) {
      expect((await fetch(`${served.url}/${path}`)).status).toBe(200);
    }
  });
});

describe('bodies that are none', () => {
  const deep = `${'['.repeat(50_000)}${']'.repeat(50_000)}`;
  test.each<[string, string | Uint8Array, number]>([
    ['nothing', '', 400],
    ['half', '{"prompt": "1"', 400],
    ['a list', '[1]', 400],
    ['null', 'null', 400],
    ['no UTF-8', Uint8Array.of(0x7b, 0xff, 0xfe, 0x7d), 400],
    ['a prototype', '{"__proto__": {"n": 3}, "prompt": "1"}', 400],
    ['a constructor', '{"constructor": {"prototype": {}}, "prompt": "1"}', 400],
    ['a deep list', `{"prompt": ${deep}}`, 400],
    ['a number for a text', '{"prompt": 1}', 400],
    ['an object for a number', '{"prompt": "1", "n": {"valueOf": 3}}', 400],
    ['infinity', '{"prompt": "1", "cfg": 1e999}', 400],
    ['a seed beyond integers', '{"prompt": "1", "seed": 9007199254740993}', 400],
    ['a long prompt', JSON.stringify({ prompt: 'x'.repeat(33_000) }), 400],
    ['a long name of a field', JSON.stringify({ prompt: '1', ['y'.repeat(100_000)]: 1 }), 400],
    ['too much', JSON.stringify({ prompt: 'x'.repeat(300_000) }), 413],
  ])('%s is refused', async (_name, body, status) => {
    expect((await refusal(await post('generations', body as BodyInit, json))).status).toBe(status);
  });

  test('too much in pieces of unknown number is refused before it is all there', async () => {
    let sent = 0;
    const endless = new ReadableStream({
      pull(controller) {
        sent += 65_536;
        controller.enqueue(new Uint8Array(65_536).fill(0x20));
      },
    });
    const answer = await post('generations', endless, json).catch((error: unknown) => error);
    // The server may hang up while the rest is on its way: then the client sees no answer at all.
    if (answer instanceof Response) expect(answer.status).toBe(413);
    expect(sent).toBeLessThan(64 * 2 ** 20);
    await expectAlive();
  });

  test.each([['text/plain'], ['application/x-www-form-urlencoded'], ['multipart/form-data; boundary=x']])(
    'JSON as %s is refused',
    async (type) => {
      expect(
        await refusal(await post('generations', '{"prompt": "1"}', { 'content-type': type })),
      ).toMatchObject({
        status: 415,
      });
    },
  );

  test.each([['GET'], ['PUT'], ['DELETE']])('%s is refused', async (method) => {
    const answer = await fetch(`${served.url}/v1/images/generations`, { method, headers: { authorization } });
    expect(answer.headers.get('allow')).toBe('POST');
    expect(await refusal(answer)).toMatchObject({ status: 405 });
  });
});

describe('forms', () => {
  let picture: Buffer;
  beforeAll(async () => {
    picture = await sharp({ create: { width: 40, height: 30, channels: 4, background: '#8af8' } })
      .png()
      .toBuffer();
  });

  const formOf = (fields: Record<string, string | Uint8Array>, more?: (form: FormData) => void): FormData => {
    const form = new FormData();
    for (const [name, value] of Object.entries(fields)) {
      form.append(name, typeof value === 'string' ? value : new Blob([value as BlobPart]), ...([] as []));
    }
    more?.(form);
    return form;
  };

  test('with a picture of any sides are served', async () => {
    expect((await post('variations', formOf({ image: picture }))).status).toBe(200);
    expect((await post('edits', formOf({ image: picture, prompt: '3', keep: '0' }))).status).toBe(200);
  });

  test.each<[string, string, () => FormData, string]>([
    ['no picture', 'variations', () => formOf({ n: '1' }), 'missing_field'],
    ['a text as picture', 'variations', () => formOf({ image: 'picture.png' }), 'missing_field'],
    ['an empty picture', 'variations', () => formOf({ image: new Uint8Array(0) }), 'invalid_image'],
    ['noise', 'variations', () => formOf({ image: new Uint8Array(5000).fill(7) }), 'invalid_image'],
    [
      'a picture that breaks off',
      'edits',
      () => formOf({ image: picture.subarray(0, 60), prompt: '1' }),
      'invalid_image',
    ],
    [
      'two pictures',
      'edits',
      () => formOf({ image: picture, 'image[]': picture, prompt: '1' }),
      'invalid_value',
    ],
    ['no class', 'edits', () => formOf({ image: picture }), 'missing_field'],
    [
      'too many tokens that stay',
      'edits',
      () => formOf({ image: picture, prompt: '1', keep: '999999' }),
      'invalid_value',
    ],
    [
      'a mask and tokens',
      'edits',
      () => formOf({ image: picture, mask: picture, prompt: '1', keep: '2' }),
      'invalid_value',
    ],
    ['a mask for variations', 'variations', () => formOf({ image: picture, mask: picture }), 'unknown_field'],
    [
      'a field twice',
      'variations',
      () => formOf({ image: picture, n: '1' }, (f) => f.append('n', '2')),
      'invalid_value',
    ],
    [
      'a file as number',
      'variations',
      () => formOf({ image: picture, n: new Uint8Array(3) }),
      'invalid_value',
    ],
    ['an unknown field', 'variations', () => formOf({ image: picture, strength: '1' }), 'unknown_field'],
    ['a number in words', 'variations', () => formOf({ image: picture, n: 'two' }), 'invalid_value'],
    [
      'many parts',
      'variations',
      () => formOf({ image: picture }, (f) => Array.from({ length: 200 }, (_, i) => f.append(`f${i}`, 'x'))),
      'invalid_form',
    ],
  ])('with %s are refused', async (_name, route, form, code) => {
    expect(await refusal(await post(route, form()))).toEqual({ status: 400, code });
  });

  test('with a mask in a list say how a mask is given', async () => {
    const answer = await post('edits', formOf({ image: picture, 'mask[]': picture, prompt: '1' }));
    expect((await answer.json()).error.message).toMatch(/mask\[\] is a file; give it as mask/);
  });

  test('with too many bytes, or a picture that claims too many pixels, are refused', async () => {
    expect(await refusal(await post('variations', formOf({ image: new Uint8Array(400_000) })))).toMatchObject(
      { status: 413 },
    );
    const bomb = Buffer.from(picture);
    bomb.writeUInt32BE(60_000, 16);
    bomb.writeUInt32BE(60_000, 20);
    expect(await refusal(await post('variations', formOf({ image: bomb })))).toMatchObject({ status: 400 });
  });

  test('that are damaged anywhere leave the server alive', async () => {
    const whole = new Response(formOf({ image: picture, n: '1', seed: '3' }));
    const type = whole.headers.get('content-type') as string;
    const bytes = new Uint8Array(await whole.arrayBuffer());
    let served = 0;
    for (let i = 0; i < 60; i++) {
      const damaged = bytes.slice(0, i % 3 === 0 ? Math.floor((bytes.length * i) / 60) : bytes.length);
      for (let k = 0; k < i % 5; k++)
        damaged[(i * 7919 + k * 104_729) % Math.max(1, damaged.length)] ^= 1 << ((i + k) % 8);
      const answer = await post('variations', damaged, { 'content-type': type });
      if (answer.status === 200) served++;
      else expect([400, 413]).toContain((await refusal(answer)).status);
    }
    expect(served).toBeGreaterThan(0);
    await expectAlive();
  });
});

describe('connections', () => {
  test('that say nothing, or one byte after the other, are closed', async () => {
    const silent = await connection(served.server.port, '');
    const slow = await connection(served.server.port, 'GET /v1/models HTTP/1.1\r\nhost: x\r\n');
    const drip = setInterval(() => slow.socket.write('a'), 100);
    await until(() => silent.closed() && slow.closed());
    clearInterval(drip);
    expect(slow.heard()).toContain('408');
    await expectAlive();
  });

  test.each([
    ['nonsense', '\u0000\u0001\u0002\r\n\r\n'],
    ['two lengths', 'POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabc'],
    [
      'a length and pieces',
      'POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\nabc',
    ],
    ['a large header', `GET / HTTP/1.1\r\nhost: x\r\na: ${'b'.repeat(20_000)}\r\n\r\n`],
  ])('that send %s are refused', async (_name, said) => {
    const one = await connection(served.server.port, said);
    await until(() => one.closed());
    expect(one.heard()).toMatch(/^HTTP\/1\.1 4\d\d /);
    await expectAlive();
  });

  test('in great number are closed, and those at work are served', async () => {
    const stream = await served.client.images.generate({ prompt: '1', stream: true, partial_images: 3 });
    const idle = await connections(served.server.port, 1500);
    const types: string[] = [];
    for await (const { type } of stream) types.push(type);
    expect(types.at(-1)).toBe('image_generation.completed');
    await until(() => idle.every((one) => one.closed()));
    await expectAlive();
  });
});
