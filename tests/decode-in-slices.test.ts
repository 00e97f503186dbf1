import { createNodeBackend } from '@detailflow/backend-node';
import { type Backend, type ImageTokenizer, Tensor } from '@detailflow/core';
import { createVqTokenizer, vqConfigOf } from '@detailflow/llamagen';
import { createScaleTokenizer } from '@detailflow/var';
import { load, type Model } from 'detailflow';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { familyWeights, flexVarParts, varParts } from './golden-family';

/** A backend that tells how many images each run took. */
let backend: Backend;
const taken: number[] = [];
let model: Model | undefined;
beforeAll(async () => {
  const inner = await createNodeBackend({ threads: 2 });
  backend = {
    name: inner.name,
    createState: (tensors) => inner.createState(tensors),
    close: () => inner.close(),
    [Symbol.asyncDispose]: () => inner.close(),
    async compile(...args) {
      const executable = await inner.compile(...args);
      return {
        run(feeds, options) {
          taken.push(feeds.codes.dims[0]);
          return executable.run(feeds, options);
        },
        createState: (dims) => executable.createState(dims),
        dispose: () => executable.dispose(),
      };
    },
  };
});
afterAll(async () => {
  await model?.dispose();
  await backend.close();
});

const tokenizers: Record<string, () => Promise<ImageTokenizer>> = {
  async DetailFlow() {
    model = await load('@detailflow/model-fashion-32', { backend });
    return model.tokenizer;
  },
  async LlamaGen() {
    const weights = await familyWeights('llamagen/vq/vq_ds4_P.pt', 'model');
    return createVqTokenizer({ config: vqConfigOf(weights, { imageSize: 32 }), weights, backend });
  },
  async VAR() {
    const { tokenizerConfig, vae } = await varParts();
    return createScaleTokenizer({ config: tokenizerConfig, weights: vae, backend });
  },
  async FlexVAR() {
    const { tokenizerConfig, vae } = await flexVarParts([1, 2, 3, 4]);
    return createScaleTokenizer({ config: tokenizerConfig, weights: vae, backend });
  },
};

test.each(Object.keys(tokenizers))(
  '%s decodes many images few at a time, with the same bits',
  async (name) => {
    const tokenizer = await tokenizers[name]();
    const [count, { tokens, codebookSize }] = [11, tokenizer];
    const data = Int32Array.from({ length: count * tokens }, (_, i) => (i * 7919) % codebookSize);
    taken.length = 0;
    const together = await tokenizer.decode(new Tensor('int32', data, [count, tokens]));
    expect(taken).toEqual([4, 7]);
    const size = together.data.length / count;
    for (let i = 0; i < count; i++) {
      const codes = new Tensor('int32', data.slice(i * tokens, (i + 1) * tokens), [1, tokens]);
      const alone = await tokenizer.decode(codes);
      expect(together.data.subarray(i * size, (i + 1) * size)).toEqual(alone.data);
    }
    await tokenizer.dispose();
  },
);

test.each(Object.keys(tokenizers))('%s refuses what are no images and no codes', async (name) => {
  const tokenizer = await tokenizers[name]();
  const { imageSize: side, tokens } = tokenizer;
  const nothing = new Tensor('float32', new Float32Array(3 * side * side).fill(Number.NaN), [
    1,
    3,
    side,
    side,
  ]);
  const gone = new Tensor('int32', new Int32Array(tokens), [1, tokens]);
  gone.dispose();
  const codes = new Tensor('int32', new Int32Array(tokens), [1, tokens]);
  for (const wrong of [undefined, null, [0], new Float32Array(3), structuredClone(nothing), nothing]) {
    await expect(tokenizer.encode(wrong as never)).rejects.toMatchObject({ name: 'DetailFlowError' });
  }
  for (const wrong of [undefined, null, [0], structuredClone(codes), gone]) {
    await expect(tokenizer.decode(wrong as never)).rejects.toMatchObject({ name: 'DetailFlowError' });
  }
  for (const size of [Number.NaN, 0, 2.5, -4, 1e6, '8']) {
    await expect(tokenizer.decode(codes, { size } as never)).rejects.toMatchObject({
      code: 'invalid-argument',
    });
  }
  await tokenizer.dispose();
});
