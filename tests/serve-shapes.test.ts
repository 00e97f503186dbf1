import { createDetailFlow } from '@detailflow/ai-sdk-provider';
import { generateImage } from 'ai';
import { load, type Model } from 'detailflow';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { inRepository } from './cli';
import { type Served, startServed } from './served';

// A model whose pictures are wider than high: every size that is told has both sides.

const at = inRepository('tests/fixtures/golden/family/flexvar');
let model: Model;
let served: Served;
beforeAll(async () => {
  model = await load(
    { tokenizer: `${at}/FlexVAE.pth`, ar: `${at}/FlexVARd3-epo7.pth` },
    { settings: { scales: [1, [2, 3], [4, 6]] } },
  );
  served = await startServed(model);
});
afterAll(async () => {
  await served?.server.close();
  await model?.dispose();
});

const sidesOf = async (bytes: Uint8Array) => {
  const { width, height } = await sharp(bytes).metadata();
  return `${width}x${height}`;
};

test('the list of models, answers and events say width and height', async () => {
  const { client } = served;
  const { data: [one] = [] } = await client.models.list();
  expect(one).toMatchObject({ size: '24x16', image_width: 24, image_height: 16 });
  for (const size of ['24x16', 'auto', undefined] as never[]) {
    const { data, size: told } = await client.images.generate({ prompt: '3', size });
    expect([told, await sidesOf(Buffer.from(data?.[0].b64_json ?? '', 'base64'))]).toEqual([
      '24x16',
      '24x16',
    ]);
  }
  const stream = await client.images.generate({ prompt: '3', stream: true, partial_images: 2 });
  const told: string[] = [];
  for await (const { size, b64_json } of stream) {
    expect(await sidesOf(Buffer.from(b64_json, 'base64'))).toBe(size);
    told.push(size);
  }
  expect(told).toEqual(['4x4', '12x8', '24x16']);
  for (const size of ['16x16', '16x24', '24x24']) {
    await expect(client.images.generate({ prompt: '3', size: size as never })).rejects.toMatchObject({
      ...{ status: 400, param: 'size', message: expect.stringContaining('this model draws 24x16') },
    });
  }
});

test('pictures to encode are refused by their shape', async () => {
  const image = await sharp({ create: { width: 24, height: 16, channels: 3, background: 'red' } })
    .png()
    .toBuffer();
  for (const [route, prompt] of [['edits', '3'], ['variations']]) {
    const form = new FormData();
    form.set('image', new Blob([new Uint8Array(image)], { type: 'image/png' }), 'image.png');
    if (prompt) form.set('prompt', prompt);
    const answer = await fetch(`${served.url}/v1/images/${route}`, { method: 'POST', body: form });
    expect([answer.status, await answer.json()]).toMatchObject([
      400,
      { error: { param: 'image', message: expect.stringContaining('24x16') } },
    ]);
  }
});

test('the AI SDK is told them, and warned of another shape only', async () => {
  const { data: [{ id }] = [] } = await served.client.models.list();
  const providers = [
    createDetailFlow({ model, name: id }),
    createDetailFlow({ baseURL: `${served.url}/v1`, apiKey: 'none' }),
  ];
  for (const provider of providers) {
    const draw = (more: object) =>
      generateImage({ model: provider.image(id), prompt: '3', seed: 1, maxRetries: 0, ...more });
    const { image, warnings, providerMetadata } = await draw({ aspectRatio: '3:2' });
    expect(await sidesOf(image.uint8Array)).toBe('24x16');
    expect(warnings).toEqual([]);
    expect(providerMetadata.detailflow.images).toMatchObject([{ seed: 1, size: '24x16' }]);
    const other = await draw({ aspectRatio: '1:1' });
    expect(other.warnings).toMatchObject([
      { type: 'unsupported', feature: 'aspectRatio', details: expect.stringContaining('24x16') },
    ]);
  }
  const [local] = providers;
  const sized = await generateImage({ model: local.image(id), prompt: '3', size: '16x16' });
  expect(sized.warnings).toMatchObject([{ details: expect.stringContaining('draws 24x16') }]);
});
