import path from 'node:path';
import { Tensor } from '@detailflow/core';
import { load, type Model, type ModelSource, pictureFromPixels } from 'detailflow';
import { toFile } from 'openai';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Served, startServed } from './served';

// Edits with a mask by small models of the families whose tokens have places in the picture.

const family = (name: string) => path.join(import.meta.dirname, 'fixtures/golden/family', name);

interface Case {
  readonly name: string;
  readonly source: ModelSource;
  /** Sides of the grids that the tokens lie on, in their order. */
  readonly grids: readonly number[];
}

const cases: readonly Case[] = [
  {
    name: 'LlamaGen',
    source: { tokenizer: family('llamagen/vq'), ar: family('llamagen/gpt_c2i') },
    grids: [8],
  },
  { name: 'VAR', source: family('var'), grids: [1, 2, 3, 4, 6] },
];

describe.each(cases)('$name', ({ source, grids }) => {
  let model: Model;
  let served: Served;
  let side: number;
  let original: Buffer;
  let codes: Tensor<'int32'>;
  /** Tokens of the pictures as the server decoded them. */
  const decoded: number[][] = [];
  beforeAll(async () => {
    model = await load(source);
    const { family, tokenizer, tokenModel, cfg } = model;
    const watched = new Proxy(tokenizer, {
      get(target, name) {
        const value = Reflect.get(target, name, target);
        if (typeof value !== 'function') return value;
        return (...given: [Tensor<'int32'>]) => {
          if (name === 'decode') decoded.push(Array.from(given[0].data));
          return value.apply(target, given);
        };
      },
    });
    served = await startServed({ family, tokenModel, cfg, tokenizer: watched }, { pictures: 3 });
    side = tokenizer.resolution(model.tokenModel?.tokens as number);
    const rgb = Buffer.from(
      Uint8Array.from({ length: 3 * side * side }, (_, i) => (i * 7919 + (i % 3) * 90 + (i >> 5) * 13) % 256),
    );
    original = await sharp(rgb, { raw: { width: side, height: side, channels: 3 } })
      .png()
      .toBuffer();
    const area = side * side;
    const pixels = Float32Array.from(
      { length: 3 * area },
      (_, i) => rgb[(i % area) * 3 + Math.floor(i / area)] / 127.5 - 1,
    );
    codes = await model.encode(new Tensor('float32', pixels, [1, 3, side, side]));
  });
  afterAll(async () => {
    await served?.server.close();
    await model?.dispose();
  });

  /** A mask of which the columns of pixels from `first` on are transparent. */
  const maskFrom = (first: number) =>
    sharp(
      Buffer.from(
        Uint8Array.from({ length: 4 * side * side }, (_, i) =>
          i % 4 === 3 && Math.floor(i / 4) % side >= first ? 0 : 255,
        ),
      ),
      { raw: { width: side, height: side, channels: 4 } },
    )
      .png()
      .toBuffer();

  /** Which tokens lie before those columns; the first scale of several is the whole picture, and stays. */
  const staysBefore = (first: number): boolean[] =>
    grids.flatMap((across) =>
      Array.from(
        { length: across * across },
        (_, place) =>
          (grids.length > 1 && across === 1) || Math.ceil((((place % across) + 1) * side) / across) <= first,
      ),
    );

  async function edit(first: number, seed: number, image = original, mask?: Buffer) {
    decoded.length = 0;
    const answer = await served.client.images.edit({
      image: await toFile(image, 'image.png', { type: 'image/png' }),
      mask: await toFile(mask ?? (await maskFrom(first)), 'mask.png', { type: 'image/png' }),
      ...{ prompt: '3', n: 3, seed: String(seed) as never },
    } as Parameters<typeof served.client.images.edit>[0] & { stream?: false });
    const pictures = (answer.data ?? []).map(({ b64_json }) => Buffer.from(b64_json ?? '', 'base64'));
    expect([pictures.length, decoded.length]).toEqual([3, 3]);
    return { pictures, input: answer.usage?.input_tokens, tokens: decoded.map((one) => [...one]) };
  }

  test('tokens that the mask leaves stay, and others are drawn anew', async () => {
    const first = Math.floor(side / 2);
    const stays = staysBefore(first);
    expect(stays).toHaveLength(model.tokenModel?.tokens as number);
    const own = Array.from(codes.data);
    const { pictures, input, tokens } = await edit(first, 5);
    expect(input).toBe(3 * stays.filter(Boolean).length);
    for (const found of tokens) {
      expect(found.filter((_, i) => stays[i])).toEqual(own.filter((_, i) => stays[i]));
      expect(found.filter((_, i) => !stays[i])).not.toEqual(own.filter((_, i) => !stays[i]));
    }
    expect(new Set(tokens.map(String)).size).toBe(3);
    const mask = new Tensor('bool', Uint8Array.from(stays, Number), [stays.length]);
    for (const [i, picture] of pictures.entries()) {
      let expected: Uint8ClampedArray | undefined;
      for await (const step of model.generate({ labels: [3], seed: 5 + i, keep: { codes, mask } })) {
        if (step.count === step.total) expected = pictureFromPixels(await step.pixels()).data;
      }
      const { data } = await sharp(picture).ensureAlpha().raw().toBuffer({ resolveWithObject: true });
      expect(new Uint8ClampedArray(data)).toEqual(expected);
    }
  });

  // The picture is read as a person sees it, who made the mask for what they saw.
  test('a picture that says how it is to be turned is edited where it is seen', async () => {
    const lying = await sharp(await sharp(original).rotate(-90).png().toBuffer())
      .withMetadata({ orientation: 6 })
      .png()
      .toBuffer();
    expect((await sharp(lying).metadata()).orientation).toBe(6);
    const first = Math.floor(side / 2);
    expect((await edit(first, 5, lying)).tokens).toEqual((await edit(first, 5)).tokens);
    const turned = await sharp(
      await sharp(await maskFrom(first))
        .rotate(-90)
        .png()
        .toBuffer(),
    )
      .withMetadata({ orientation: 6 })
      .png()
      .toBuffer();
    expect((await edit(first, 5, original, turned)).tokens).toEqual((await edit(first, 5)).tokens);
  });

  test('a mask without a transparent pixel keeps all, one without another keeps none', async () => {
    const all = await edit(side, 1);
    for (const found of all.tokens) expect(found).toEqual(Array.from(codes.data));
    expect(all.pictures[1].equals(all.pictures[0])).toBe(true);
    const none = await edit(0, 1);
    expect(none.input).toBe(3 * staysBefore(0).filter(Boolean).length);
    expect(none.pictures[1].equals(none.pictures[0])).toBe(false);
  });
});
