import { spawn, spawnSync } from 'node:child_process';
import { request } from 'node:http';
import { startImageServer } from '@detailflow/serve';
import type { Model } from 'detailflow';
import { toFile } from 'openai';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadServed, type Served, startServed } from './served';

// What browsers send on behalf of pages, and what programs send.

const FRIEND = 'https://draw.example.org';

let model: Model;
let alone: Served;
let open: Served;
let picture: Buffer;
beforeAll(async () => {
  model = await loadServed();
  alone = await startServed(model);
  open = await startServed(model, { origins: [FRIEND, 'http://localhost:3000'] });
  picture = await sharp({ create: { width: 40, height: 40, channels: 3, background: '#8af' } })
    .png()
    .toBuffer();
});
afterAll(async () => {
  await alone.server.close();
  await open.server.close();
  await model.dispose();
});

/** A request with headers that fetch would not let a program set. */
async function post(
  { server }: Served,
  headers: Record<string, string>,
  { method = 'POST', route = 'variations' } = {},
): Promise<{ status: number; code?: string; headers: Record<string, string | string[] | undefined> }> {
  const form = new FormData();
  form.append('image', new Blob([picture as BlobPart]), 'image');
  if (route === 'edits') form.append('prompt', '1');
  const whole = route === 'generations' ? undefined : new Response(form);
  const type = whole?.headers.get('content-type') ?? 'application/json';
  const body = whole ? Buffer.from(await whole.arrayBuffer()) : Buffer.from('{"prompt": "1"}');
  return new Promise((resolve, reject) => {
    const sent = request(
      {
        ...{ method, host: '127.0.0.1', port: server.port, path: `/v1/images/${route}` },
        headers: { 'content-type': type, 'content-length': method === 'POST' ? body.length : 0, ...headers },
      },
      async (answer) => {
        const parts: Buffer[] = [];
        for await (const part of answer) parts.push(part);
        const text = Buffer.concat(parts).toString();
        const code = text === '' ? undefined : JSON.parse(text).error?.code;
        resolve({ status: answer.statusCode ?? 0, code, headers: answer.headers });
      },
    );
    sent.on('error', reject);
    sent.end(method === 'POST' ? body : undefined);
  });
}

const ownHost = (served: Served) => ({ host: `127.0.0.1:${served.server.port}` });

describe.each(['variations', 'edits', 'generations'])('%s', (route) => {
  test.each<[string, (served: Served) => Record<string, string>, number]>([
    ['a page of another site', () => ({ origin: 'https://evil.example' }), 403],
    ['a page of another port', () => ({ origin: 'http://127.0.0.1:1' }), 403],
    ['a page without origin', () => ({ origin: 'null' }), 403],
    ['a browser that names the site alone', () => ({ 'sec-fetch-site': 'cross-site' }), 403],
    [
      'a page of a site beside it',
      () => ({ 'sec-fetch-site': 'same-site', origin: 'http://localhost:3000' }),
      403,
    ],
    ['an origin that only begins alike', (s) => ({ origin: `http://${ownHost(s).host}.evil.example` }), 403],
    ['its own page', (s) => ({ ...ownHost(s), origin: s.url, 'sec-fetch-site': 'same-origin' }), 200],
    ['its own page in a browser that names the origin alone', (s) => ({ ...ownHost(s), origin: s.url }), 200],
    [
      'its own page through a proxy that changes the host',
      () => ({ host: 'inner:80', origin: 'https://outer.example', 'sec-fetch-site': 'same-origin' }),
      200,
    ],
    ['a person', () => ({ 'sec-fetch-site': 'none' }), 200],
    ['a program', () => ({}), 200],
  ])('by %s', async (_name, headersOf, status) => {
    const found = await post(alone, headersOf(alone), { route });
    expect([found.status, found.code]).toEqual([status, status === 403 ? 'cross_site' : undefined]);
    expect(found.headers).not.toHaveProperty('access-control-allow-origin');
  });
});

test('a refused page has nothing read and nothing drawn', async () => {
  const before = await alone.count('detailflow_pictures_total{outcome="drawn"}');
  await post(alone, { origin: 'https://evil.example' });
  expect(await alone.count('detailflow_pictures_total{outcome="drawn"}')).toBe(before);
});

test('pages of origins that are named may ask, and read the answers; others may not', async () => {
  const site = { 'sec-fetch-site': 'cross-site' };
  for (const origin of [FRIEND, 'http://localhost:3000']) {
    const found = await post(open, { ...site, origin });
    expect(found).toMatchObject({ status: 200, headers: { 'access-control-allow-origin': origin } });
    expect(found.headers.vary).toMatch(/origin/i);
  }
  const other = await post(open, { ...site, origin: 'https://draw.example.org.evil.example' });
  expect(other).toMatchObject({ status: 403, code: 'cross_site' });
  expect(other.headers).not.toHaveProperty('access-control-allow-origin');
  const asked = {
    'access-control-request-method': 'POST',
    'access-control-request-headers': 'authorization',
  };
  const preflight = await post(open, { ...asked, origin: FRIEND }, { method: 'OPTIONS' });
  expect(preflight).toMatchObject({
    status: 204,
    headers: {
      ...{ 'access-control-allow-origin': FRIEND, 'access-control-allow-methods': 'GET, POST' },
      'access-control-allow-headers': 'authorization',
    },
  });
  for (const served of [alone, open]) {
    const { status, headers } = await post(
      served,
      { ...asked, origin: 'https://evil.example' },
      { method: 'OPTIONS' },
    );
    expect(status).toBe(405);
    expect(headers).not.toHaveProperty('access-control-allow-origin');
  }
});

test('the official client and curl go on as they are', async () => {
  const image = () => toFile(picture, 'image.png', { type: 'image/png' });
  expect((await alone.client.images.createVariation({ image: await image() })).data).toHaveLength(1);
  expect((await alone.client.images.edit({ image: await image(), prompt: '1' })).data).toHaveLength(1);
  if (spawnSync('curl', ['--version'], { stdio: 'ignore' }).status !== 0) {
    return console.warn('NOT TRIED WITH curl: it is not there');
  }
  const form = ['-F', 'image=@-', `${alone.url}/v1/images/variations`];
  const child = spawn('curl', ['-s', '-o', '/dev/null', '-w', '%{http_code}', ...form]);
  let said = '';
  child.stdout.on('data', (text) => {
    said += text;
  });
  const closed = new Promise((resolve) => child.once('close', resolve));
  child.stdin.end(picture);
  await closed;
  expect(said).toBe('200');
});

test.each([
  ['example.org'],
  ['https://example.org/'],
  ['https://Example.org'],
  ['*'],
  ['null'],
  ['https://x:443'],
  ['file://'],
])('%s is no origin', async (origin) => {
  await expect(startImageServer({ model, port: 0, origins: [origin] })).rejects.toMatchObject({
    ...{ code: 'invalid-argument', message: expect.stringContaining('origins') },
  });
});
