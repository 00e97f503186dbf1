import { bytesSource, pictureFromPixels, readSafetensors, Tensor, type TokenModel } from '@detailflow/core';
import { createReferenceBackend } from '@detailflow/core/reference';
import { sampleTokens } from '@detailflow/sampler';
import { createTokenizer, tokenizerParameters } from '@detailflow/tokenizer';
import { describe, expect, test } from 'vitest';
import { tokenizerConfig, weightsFile } from './hostile-model';

describe('weights that are not finite', () => {
  /** A token model whose logits are given. */
  const model = (logits: readonly number[], disposed: { count: number }): TokenModel => ({
    tokens: 2,
    schedule: [1, 1],
    vocabularySize: logits.length,
    classes: 1,
    unconditional: () => 1,
    dispose: async () => {},
    begin: async (labels) => ({
      position: 0,
      nextCount: 1,
      predict: async () =>
        new Tensor('float32', Float32Array.from(labels.flatMap(() => logits)), [
          labels.length,
          1,
          logits.length,
        ]),
      dispose: async () => {
        disposed.count++;
      },
    }),
  });
  const bad = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];

  test.each(
    bad.flatMap((value) => [false, true].flatMap((greedy) => [1, 2].map((cfg) => ({ value, greedy, cfg })))),
  )('the logit $value is refused (greedy: $greedy, cfg $cfg)', async ({ value, greedy, cfg }) => {
    const disposed = { count: 0 };
    const steps = sampleTokens({ model: model([0, 1, value], disposed), labels: [0], greedy, cfg });
    await expect(steps.next()).rejects.toMatchObject({
      code: 'runtime',
      message: expect.stringMatching(/AR model gave the logit .* of token 0.*NaN/),
    });
    expect(disposed.count).toBe(1);
  });

  test('a guidance scale that overflows is refused, too', async () => {
    const steps = sampleTokens({ model: model([3e38, 0], { count: 0 }), labels: [0], cfg: 1 });
    expect((await steps.next()).value?.count).toBe(1);
    const apart: TokenModel = {
      ...model([0, 0], { count: 0 }),
      begin: async () => ({
        position: 0,
        nextCount: 1,
        predict: async () => new Tensor('float32', Float32Array.of(3e38, 0, -3e38, 0), [2, 1, 2]),
        dispose: async () => {},
      }),
    };
    await expect(sampleTokens({ model: apart, labels: [0], cfg: 2 }).next()).rejects.toMatchObject({
      code: 'runtime',
    });
  });

  test('they load, make no picture, and never become a code out of range', async () => {
    const specs = tokenizerParameters(tokenizerConfig);
    for (const value of [Number.NaN, Number.POSITIVE_INFINITY]) {
      const weights = await readSafetensors(bytesSource(weightsFile(specs, value)));
      const tokenizer = createTokenizer({
        config: tokenizerConfig,
        weights,
        backend: createReferenceBackend(),
      });
      const pixels = await tokenizer.decode(new Tensor('int32', Int32Array.of(0, 1, 2, 3), [1, 4]));
      expect([...(pixels.data as Float32Array)].every(Number.isNaN)).toBe(true);
      expect(() => pictureFromPixels(pixels, 0)).toThrow(
        expect.objectContaining({ code: 'runtime', message: expect.stringMatching(/is NaN/) }),
      );
      const images = new Tensor('float32', new Float32Array(3 * 8 * 8), [1, 3, 8, 8]);
      const codes = (await tokenizer.encode(images)).data as Int32Array;
      expect(codes.every((code) => code >= 0 && code < 4)).toBe(true);
    }
  });
});
