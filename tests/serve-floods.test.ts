import type { ServedModel } from '@detailflow/serve';
import type { Model } from 'detailflow';
import sharp from 'sharp';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { type Connection, connection } from './connections';
import { Gate } from './gate';
import { loadServed, type Served, startServed, until } from './served';

// Floods of uploads: what there is no room for is refused before it is read, and what is read at once is bounded.

let model: Model;
let picture: Buffer;
let served: Served | undefined;
beforeAll(async () => {
  model = await loadServed();
  picture = await sharp({ create: { width: 40, height: 40, channels: 3, background: '#8af' } })
    .png()
    .toBuffer();
});
afterEach(async () => {
  await served?.server.close();
  served = undefined;
});
afterAll(() => model.dispose());

const withTokenizer = (tokenizer: ServedModel['tokenizer']): ServedModel => {
  const { family, tokenModel, cfg, card } = model;
  return { family, tokenModel, cfg, card, tokenizer };
};

const LARGE = 16 * 2 ** 20;

/** A client that has announced 16 MiB, and sent nothing of them. */
const announced = (port: number, route = 'variations') =>
  connection(
    port,
    [
      ...[`POST /v1/images/${route} HTTP/1.1`, 'host: x', `content-length: ${LARGE}`],
      'content-type: multipart/form-data; boundary=b\r\n\r\n',
    ].join('\r\n'),
  );

const refused = (one: Connection) => one.heard().startsWith('HTTP/1.1 429 ');

const draw = (url: string) =>
  fetch(`${url}/v1/images/generations`, {
    ...{ method: 'POST', headers: { 'content-type': 'application/json' } },
    body: JSON.stringify({ prompt: '1' }),
  });

function vary(url: string, file: Uint8Array, more: Record<string, string> = {}): Promise<Response> {
  const form = new FormData();
  form.append('image', new Blob([file as BlobPart]), 'image');
  for (const [name, value] of Object.entries(more)) form.append(name, value);
  return fetch(`${url}/v1/images/variations`, { method: 'POST', body: form });
}

test('a full queue refuses forms before they are read', async () => {
  const gate = new Gate();
  gate.open();
  served = await startServed(withTokenizer(gate.on(model.tokenizer, 'decode')), { pictures: 1, queue: 2 });
  const { server, url, count } = served;
  gate.close();
  const before = gate.calls;
  const drawing = [draw(url), draw(url), draw(url)];
  await until(() => gate.calls === before + 3); // drawn, and held before they are shown
  const flood = await Promise.all(
    Array.from({ length: 100 }, (_, i) => announced(server.port, i % 2 === 0 ? 'variations' : 'edits')),
  );
  await until(() => flood.every(refused));
  for (const one of flood) expect(one.heard()).toMatch(/^retry-after: \d+\r$/im);
  expect(await count('detailflow_pictures_total{outcome="refused"}')).toBe(100);
  gate.open();
  for (const answer of await Promise.all(drawing)) expect(answer.status).toBe(200);
  expect((await vary(url, picture)).status).toBe(200);
  for (const { socket } of flood) socket.destroy();
});

test('forms that come slowly hold up no more than other forms, and leave their places with their connections', async () => {
  served = await startServed(model, { pictures: 1, queue: 2 });
  const { server, url, log } = served;
  const flood = await Promise.all(Array.from({ length: 100 }, () => announced(server.port)));
  await until(() => flood.filter(refused).length === 97);
  expect((await vary(url, picture)).status).toBe(429);
  expect((await draw(url)).status).toBe(200);
  for (const { socket } of flood) socket.destroy();
  await until(() => log.filter(({ status }) => status === 499).length === 3);
  expect((await vary(url, picture)).status).toBe(200);
});

test('so many pictures as are drawn at once are encoded at once, and the others wait or are refused', async () => {
  const gate = new Gate();
  served = await startServed(withTokenizer(gate.on(model.tokenizer, 'encode')), { pictures: 2, queue: 6 });
  const { url, count } = served;
  const large = new Uint8Array(2 ** 20); // what follows a PNG is not looked at
  large.set(picture);
  // The server may hang up while the rest of a form that it refuses is on its way: then the client sees no answer.
  const flood = Array.from({ length: 60 }, () =>
    vary(url, large, { keep: '4' }).then(
      ({ status }) => status,
      () => 429,
    ),
  );
  await until(
    async () => (await count('detailflow_pictures_total{outcome="refused"}')) === 52 && gate.calls === 2,
  );
  gate.open();
  const statuses = await Promise.all(flood);
  expect(statuses.filter((status) => status === 200)).toHaveLength(8);
  expect([gate.calls, gate.most]).toEqual([8, 2]);
  expect(await count('detailflow_pictures_total{outcome="drawn"}')).toBe(8);
  expect((await vary(url, picture)).status).toBe(200);
});

test('forms that are being read, or wait for their turn, are told when the server ends', async () => {
  const gate = new Gate();
  served = await startServed(withTokenizer(gate.on(model.tokenizer, 'encode')), { pictures: 1, queue: 3 });
  const { server, url } = served;
  const [first, waiting] = [vary(url, picture), vary(url, picture)];
  await until(() => gate.calls === 1);
  const slow = await announced(server.port);
  const crowd = await Promise.all([announced(server.port), announced(server.port)]);
  await until(() => crowd.some(refused)); // so all others were taken on
  const draining = server.drain(60);
  await until(() => slow.heard().startsWith('HTTP/1.1 503 '));
  expect((await waiting).status).toBe(503);
  gate.open();
  expect((await first).status).toBe(200); // its place was taken before
  expect(await draining).toEqual({ pictures: 0, answers: 0 });
});
