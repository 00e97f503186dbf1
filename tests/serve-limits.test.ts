import { createImageApp, startImageServer } from '@detailflow/serve';
import { type Model, pictureFromPixels } from 'detailflow';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { Gate } from './gate';
import { loadServed, type Served, startServed, until } from './served';

let model: Model;
let served: Served | undefined;
beforeAll(async () => {
  model = await loadServed();
});
afterEach(async () => {
  await served?.server.close();
  served = undefined;
});
afterAll(() => model.dispose());

const draw = (url: string, fields: object, init: RequestInit = {}) =>
  fetch(`${url}/v1/images/generations`, {
    ...{ method: 'POST', headers: { 'content-type': 'application/json' } },
    ...init,
    body: JSON.stringify({ prompt: '1', ...fields }),
  });

test('a server that ends finishes what it took on, and takes nothing more', async () => {
  const { server, url, client, count, log } = await startServed(model, { pictures: 2 });
  const whole = draw(url, { n: 6, seed: 9 });
  const stream = await client.images.generate({ prompt: '2', stream: true, partial_images: 2 });
  await until(async () => (await count('detailflow_pictures_waiting')) > 2);
  const draining = server.drain(120);
  const ready = await fetch(`${url}/ready`);
  expect([ready.status, await ready.json()]).toEqual([503, { status: 'draining' }]);
  expect((await fetch(`${url}/health`)).status).toBe(200);
  const late = await draw(url, {});
  expect([late.status, late.headers.get('retry-after')]).toEqual([503, '5']);
  expect((await late.json()).error.code).toBe('server_closing');

  const types: string[] = [];
  for await (const { type } of stream) types.push(type);
  expect(types.at(-1)).toBe('image_generation.completed');
  expect((await (await whole).json()).data).toHaveLength(6);
  expect(await draining).toEqual({ pictures: 0, answers: 0 });
  await expect(fetch(`${url}/health`)).rejects.toThrow(); // it listens no longer
  expect(log.filter(({ level }) => level !== 'info')).toEqual([]);
});

test('what is not finished in time is told so', async () => {
  const { server, url, client } = await startServed(model, { pictures: 1 });
  const whole = draw(url, { n: 10 });
  const stream = await client.images.generate({ prompt: '2', n: 10, stream: true });
  const reading = (async () => {
    for await (const _ of stream);
  })();
  const ended = expect(reading).rejects.toMatchObject({ code: 'server_closing' });
  const left = await server.drain(0);
  expect(left.pictures).toBeGreaterThan(0);
  expect(left.answers).toBe(0);
  await ended;
  const answer = await whole;
  expect([answer.status, (await answer.json()).error.code]).toEqual([503, 'server_closing']);
});

test('a request that takes too long ends with an error, and gives its places back', async () => {
  served = await startServed(model, { pictures: 1, queue: 40, timeout: 1, most: 10 });
  const { url, client, count } = served;
  const answers = await Promise.all(Array.from({ length: 4 }, () => draw(url, { n: 10 })));
  const codes = await Promise.all(answers.map(async (one) => (await one.json()).error?.code ?? 'drawn'));
  expect(codes).toContain('timeout');
  expect(codes.filter((code) => !['timeout', 'drawn'].includes(code))).toEqual([]);
  const stream = await client.images.generate({ prompt: '2', n: 10, stream: true });
  const others = Promise.all(Array.from({ length: 3 }, () => draw(url, { n: 10 })));
  const reading = (async () => {
    for await (const _ of stream);
  })();
  const outcome = await reading.then(
    () => 'drawn',
    (error) => error.code,
  );
  expect(['timeout', 'drawn']).toContain(outcome);
  await others;
  await until(async () => (await count('detailflow_pictures_running')) === 0);
  expect(await count('detailflow_pictures_waiting')).toBe(0);
  expect(await count('detailflow_pictures_total{outcome="failed"}')).toBeGreaterThan(0);
});

test('a request that leaves frees its place after the step under way: the model runs no further for it', async () => {
  const { family, tokenizer, cfg, card, tokenModel } = model;
  if (!tokenModel) throw new Error('no AR part');
  const gate = new Gate();
  gate.open();
  const gated = new Proxy(tokenModel, {
    get(target, name) {
      const value = Reflect.get(target, name, target);
      if (name === 'openPool')
        return async (...given: [never]) => gate.on(await value.apply(target, given), 'predict');
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
  served = await startServed({ family, tokenizer, cfg, card, tokenModel: gated }, { pictures: 1 });
  const { url, count, log } = served;
  const runs = async () => count('detailflow_run_pictures_count');
  const before = gate.calls;
  expect((await draw(url, { seed: 1 })).status).toBe(200);
  const ofOne = gate.calls - before;
  expect(ofOne).toBeGreaterThan(5);
  gate.close();
  const controller = new AbortController();
  const leaving = draw(url, { seed: 1 }, { signal: controller.signal });
  await until(() => gate.calls === before + ofOne + 1); // in its first step
  const next = draw(url, { seed: 2 });
  await until(async () => (await count('detailflow_pictures_waiting')) === 1);
  controller.abort();
  await expect(leaving).rejects.toThrow();
  await until(() => log.some(({ status }) => status === 499));
  gate.open();
  expect((await next).status).toBe(200);
  expect(gate.calls).toBe(before + ofOne + 1 + ofOne);
  expect(await runs()).toBe(gate.calls);
});

test('a client that does not read its stream holds no place', async () => {
  served = await startServed(model, { pictures: 1, timeout: 30 });
  const { url, count } = served;
  const controller = new AbortController();
  const silent = await draw(url, { n: 4, stream: true, partial_images: 3 }, { signal: controller.signal });
  expect(silent.status).toBe(200);
  await until(async () => (await count('detailflow_pictures_total{outcome="drawn"}')) >= 4);
  expect((await draw(url, {})).status).toBe(200);
  controller.abort();
});

test('an app answers without a network, for other servers', async () => {
  const app = createImageApp({ model, pictures: 2, name: 'fashion' });
  const early = await app.fetch(new Request('http://x/ready'));
  expect([early.status, await early.json()]).toEqual([503, { status: 'loading' }]);
  const request = (fields: object) =>
    new Request('http://x/v1/images/generations', {
      ...{ method: 'POST', headers: { 'content-type': 'application/json' } },
      body: JSON.stringify(fields),
    });
  expect((await app.fetch(request({ prompt: '1' }))).status).toBe(503);
  await app.ready;
  const { data } = await (await app.fetch(request({ model: 'fashion', prompt: '8', seed: 5 }))).json();
  let expected = '';
  for await (const step of model.generate({ labels: [8], seed: 5 })) {
    if (step.count < step.total) continue;
    expected = Buffer.from(await pictureFromPixels(await step.pixels()).toPng()).toString('base64');
  }
  expect(data).toEqual([{ b64_json: expected, seed: 5, class: 8 }]);
  await app.close();
  expect((await app.fetch(request({ prompt: '1' }))).status).toBe(503);
});

test('a model that does not load is said so', async () => {
  const { family, tokenizer, tokenModel, cfg } = model;
  if (!tokenModel) throw new Error('no AR part');
  const broken = new Proxy(tokenModel, {
    get: (target, name) =>
      name === 'openPool'
        ? async () => {
            throw new Error('out of memory');
          }
        : Reflect.get(target, name, target),
  });
  const server = await startImageServer({ model: { family, tokenizer, cfg, tokenModel: broken }, port: 0 });
  await expect(server.ready).rejects.toThrow('out of memory');
  const answer = await fetch(`${server.url}/ready`);
  expect([answer.status, await answer.json()]).toEqual([503, { status: 'failed' }]);
  await server.close();
  const unfit = { family, tokenizer, cfg };
  await expect(startImageServer({ model: unfit, port: 0 })).rejects.toMatchObject({ code: 'unsupported' });
});

test('wrong options, and a port that is taken, are refused', async () => {
  served = await startServed(model);
  const refused = (options: object, code: string, text: string) =>
    expect(startImageServer({ model, port: 0, ...options })).rejects.toMatchObject({
      code,
      message: expect.stringContaining(text),
    });
  await refused({ port: served.server.port }, 'io', 'something else listens');
  for (const name of [
    'pictures',
    'queue',
    'most',
    'timeout',
    'bodyLimit',
    'port',
    'headerTimeout',
    'connections',
  ]) {
    await refused({ [name]: -1 }, 'invalid-argument', name);
    await refused({ [name]: 1.5 }, 'invalid-argument', name);
  }
  await refused({ keys: [] }, 'invalid-argument', 'keys');
  await refused({ keys: ['short'] }, 'invalid-argument', 'keys');
  await refused({ prot: 1 }, 'invalid-argument', 'prot');
});
