import { Tensor } from '@detailflow/core';
import type { ServedModel } from '@detailflow/serve';
import type { Model } from 'detailflow';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { connection } from './connections';
import { loadServed, startServed, until } from './served';

// A server that ends, and clients that take their time: their answers are larger than what the system keeps for them.

const SIDE = 768;

let model: Model;
let large: ServedModel;
beforeAll(async () => {
  model = await loadServed();
  const { family, tokenModel, cfg, card, tokenizer } = model;
  large = { family, tokenModel, cfg, card, tokenizer: enlarged(tokenizer) };
});
afterAll(() => model.dispose());

/** The same pictures, on so many pixels, with noise that no PNG makes smaller. */
function enlarged(tokenizer: ServedModel['tokenizer']): ServedModel['tokenizer'] {
  const decode: ServedModel['tokenizer']['decode'] = async (tokens, options = {}) => {
    const { size: _, ...rest } = options;
    const { data, dims } = await tokenizer.decode(tokens, rest);
    const side = dims[3];
    const out = new Float32Array(3 * SIDE * SIDE);
    let state = 1;
    for (let i = 0; i < out.length; i++) {
      const [y, x] = [Math.floor((i % (SIDE * SIDE)) / SIDE), i % SIDE];
      const at = Math.floor((y * side) / SIDE) * side + Math.floor((x * side) / SIDE);
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      out[i] = (data[Math.floor(i / (SIDE * SIDE)) * side * side + at] + state / 2 ** 31 - 1) / 2;
    }
    return new Tensor('float32', out, [1, 3, SIDE, SIDE]);
  };
  return new Proxy(tokenizer, {
    get(target, name) {
      if (name === 'resolution') return () => SIDE;
      if (name === 'decode') return decode;
      const value = Reflect.get(target, name, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

/** Asks for ten pictures, reads nothing, and waits until they are drawn. */
async function asked(fields: object) {
  const served = await startServed(large, { pictures: 4 });
  const one = await connection(served.server.port);
  one.socket.pause();
  const body = JSON.stringify({ prompt: '1', n: 10, ...fields });
  one.socket.write(
    `POST /v1/images/generations HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
  );
  await until(async () => (await served.count('detailflow_pictures_total{outcome="drawn"}')) === 10);
  return { ...served, one };
}

test.each([
  ['in one piece', {}],
  ['as a stream', { stream: true }],
])('an answer %s that is read slowly is read to its end', async (_name, fields) => {
  const { server, one, log } = await asked(fields);
  const draining = server.drain(120);
  let isOver = false;
  draining.then(() => {
    isOver = true;
  });
  // More than two seconds, for which nothing waits but the server.
  for (let i = 0; i < 30; i++) {
    const part = new Promise((resolve) => one.socket.once('data', resolve));
    one.socket.once('data', () => one.socket.pause());
    one.socket.resume();
    await part;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  expect([one.closed(), isOver]).toEqual([false, false]);
  one.socket.resume();
  await until(() => one.closed());
  if ('stream' in fields) expect(one.heard().match(/"type":"image_generation.completed"/g)).toHaveLength(10);
  else expect(JSON.parse(one.heard().split('\r\n\r\n')[1]).data).toHaveLength(10);
  expect(await draining).toEqual({ pictures: 0, answers: 0 });
  expect(log.filter(({ level }) => level !== 'info')).toEqual([]);
});

test.each([
  ['in one piece', {}],
  ['as a stream', { stream: true }],
])('an answer %s that nobody reads is cut when the time is over, and counted', async (_name, fields) => {
  const { server, one, log } = await asked(fields);
  expect(await server.drain(1)).toEqual({ pictures: 0, answers: 1 });
  expect(log.find(({ event }) => event === 'answers cut')).toMatchObject({ level: 'warn', answers: 1 });
  if ('stream' in fields) {
    await until(() => log.some(({ event }) => event === 'stream'));
    expect(log.find(({ event }) => event === 'stream')).toMatchObject({
      ...{ outcome: 'failed', reason: 'the server is closing' },
    });
  }
  one.socket.resume();
  await until(() => one.closed());
});

test('a client that has gone is not waited for', async () => {
  const { server, one } = await asked({});
  one.socket.destroy();
  expect(await server.drain(600)).toEqual({ pictures: 0, answers: 0 });
});
