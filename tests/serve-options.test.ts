import { createImageApp, type ImageAppOptions, parseKeys, startImageServer } from '@detailflow/serve';
import type { Model } from 'detailflow';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadServed } from './served';

// What a program without types may hand over. Taken for "not given" it would open a server that was to be closed, or end pictures at once.

let model: Model;
beforeAll(async () => {
  model = await loadServed();
});
afterAll(() => model.dispose());

const refusal = (message: RegExp) =>
  expect.objectContaining({ code: 'invalid-argument', message: expect.stringMatching(message) });

describe('an option of another kind is refused', () => {
  test.each<[string, unknown]>([
    ['model', undefined],
    ['model', null],
    ['model', 'fashion-32'],
    ['name', 5],
    ['keys', ''],
    ['keys', null],
    ['keys', false],
    ['keys', 'one-key-as-a-text'],
    ['keys', [5]],
    ['origins', 'https://example.org'],
    ['origins', null],
    ['log', console],
  ])('%s: %o', (name, value) => {
    const options = { model, [name]: value } as unknown as ImageAppOptions;
    expect(() => createImageApp(options)).toThrow(refusal(new RegExp(`^${name}\\b`)));
  });

  // Node takes an empty host for none, and listens on every address of the machine.
  test.each(['', null, 5, {}])('host: %o', async (host) => {
    await expect(startImageServer({ model, port: 0, host: host as string })).rejects.toEqual(
      refusal(/^host is /),
    );
  });

  test('the text of keys', () => {
    expect(() => parseKeys(undefined as unknown as string, 'keys.txt')).toThrow(
      refusal(/^the text of parseKeys/),
    );
  });
});

test('a drain that is not told how long ends nothing; what was taken on is finished by the next', async () => {
  const server = await startImageServer({ model, port: 0 });
  await server.ready;
  const answer = fetch(`${server.url}/v1/images/generations`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ class: 1, n: 8, seed: 1 }),
  });
  while (!/^detailflow_pictures_running [1-9]/m.test(await (await fetch(`${server.url}/metrics`)).text()));
  for (const seconds of [undefined, null, '30', Number.NaN, -1, Number.POSITIVE_INFINITY, 1e9]) {
    await expect(server.drain(seconds as number)).rejects.toEqual(refusal(/^the seconds of drain are /));
  }
  expect((await fetch(`${server.url}/ready`)).status).toBe(200);
  const left = server.drain(600);
  expect((await answer).status).toBe(200);
  expect(await left).toEqual({ pictures: 0, answers: 0 });
});
