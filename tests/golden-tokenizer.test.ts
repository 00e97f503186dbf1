import {
  type Backend,
  type Executable,
  type GraphBuilder,
  pictureFromPixels,
  resizeMatrix,
  Tensor,
  type TensorType,
  trace,
  type Value,
} from '@detailflow/core';
import {
  attentionMask,
  codebookEntries,
  createTokenizer,
  decoderTower,
  embedPatches,
  encoderGraph,
  encoderTower,
  groupSimilarity,
  initialLatents,
  positionEmbedding,
  postQuantise,
  preQuantise,
  type Tokenizer,
  tokenizerWeights,
} from '@detailflow/tokenizer';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { devices, openDevice } from './devices';
import { expectClose, floats, type GoldenTensor, golden, goldenJson } from './golden';
import { goldenTokenizer } from './models';

const tensor = <T extends TensorType = TensorType>({ dtype, data, shape }: GoldenTensor): Tensor<T> =>
  (dtype === 'I32'
    ? new Tensor('int32', data as Int32Array, shape)
    : new Tensor('float32', data as Float32Array, shape)) as Tensor<T>;

const codes = (t: Tensor): number[] => Array.from(t.data as Int32Array);

describe.each(['A', 'B'] as const)('golden tokenizer values of configuration %s', (set) => {
  const values = golden(`${set}/golden_tokenizer.safetensors`);
  const { config, weights } = goldenTokenizer(set);
  const noiseIndices: number[] = goldenJson(`${set}/golden.json`).tokenizer.noise_idx;

  describe.each(devices)('on the %s backend', (device) => {
    let backend: Backend;
    let tokenizer: Tokenizer;
    beforeAll(async () => {
      backend = await openDevice(device);
      tokenizer = createTokenizer({ config, weights, backend });
    });
    afterAll(() => backend.close());

    /** Runs a model function on given tensors with fixed shapes. */
    async function run(
      feeds: Record<string, Tensor>,
      build: (p: (name: string) => Value, x: Record<string, Value>, g: GraphBuilder) => Record<string, Value>,
    ): Promise<Record<string, Tensor>> {
      const graph = trace((g) => {
        const dtypes = { float32: 'f32', int32: 'i32', bool: 'bool' } as const;
        const inputs = Object.entries(feeds).map(([name, feed]) => [
          name,
          g.input(name, dtypes[feed.type as 'float32'], feed.dims),
        ]);
        return build(tokenizerWeights(g, config), Object.fromEntries(inputs), g);
      });
      const executable = await backend.compile(graph, weights);
      const results = await executable.run(feeds);
      await executable.dispose();
      return results;
    }

    const side = config.imageSize / config.encoder.patchSize;
    const positions = (n: number) =>
      new Tensor(
        'int32',
        Int32Array.from({ length: n }, (_, i) => i),
        [n],
      );
    const resize = (grid: number, to: number) =>
      new Tensor('float32', resizeMatrix('bilinear-antialias', grid, to), [to, grid]);

    test('encoder towers', async () => {
      const { tokens, groupSize, causalTokens } = config;
      const patches = side * side;
      const mask = attentionMask({
        patches,
        tokens,
        groupSize,
        causalTokens,
        patchesSeeLatents: false,
        latentsSeePatches: true,
      });
      const results = await run(
        {
          images: tensor(values.images),
          positions: positions(tokens),
          resize: resize(config.encoder.positionGrid, side),
          visible: new Tensor('bool', mask, [patches + tokens, patches + tokens]),
        },
        (p, { images, positions, resize, visible }) => {
          const embedded = embedPatches(p, config, images, resize);
          const out = encoderTower(p, config, {
            patches: embedded,
            latents: initialLatents(p, positions),
            positions,
            visible,
          });
          return { embedded, hidden: out.patches, latent: out.latents, h: preQuantise(p, out.latents) };
        },
      );
      const first = (name: string, size: number) => (results[name].data as Float32Array).subarray(0, size);
      const reference = (name: string) => values[name].data as Float32Array;
      expectClose(first('embedded', reference('enc.patch_plus_pos').length), reference('enc.patch_plus_pos'));
      expectClose(first('hidden', reference('enc.hidden_patches').length), reference('enc.hidden_patches'));
      expectClose(results.latent.data as Float32Array, reference('enc.latent'));
      expectClose(results.h.data as Float32Array, reference('enc.h'));
    });

    test('codes of all tokens, of the first tokens, and of small images', async () => {
      expect(codes(await tokenizer.encode(tensor<'float32'>(values.images)))).toEqual(
        Array.from(values['enc.indices'].data),
      );
      for (const name of Object.keys(values)) {
        const count = /^enc\.n(\d+)\.indices$/.exec(name)?.[1];
        if (!count) continue;
        const found = await tokenizer.encode(tensor<'float32'>(values.images), { tokens: Number(count) });
        expect(codes(found)).toEqual(Array.from(values[name].data));
      }
      expect(codes(await tokenizer.encode(tensor<'float32'>(values.lowres_images)))).toEqual(
        Array.from(values['enc.lowres.indices'].data),
      );
    });

    test.each(noiseIndices)('self-correction from token %i', async (noiseIndex) => {
      const name = `enc.noise${noiseIndex}`;
      const rows = await tokenizer.encodeCorrected(tensor<'float32'>(values.images), {
        noiseIndex,
        ranks: tensor<'int32'>(values[`${name}.ranks`]),
      });
      const expected = Array.from(values[`${name}.index`].data);
      for (const [column, row] of [rows.clean, rows.input, rows.target].entries()) {
        expect(codes(row)).toEqual(expected.filter((_, i) => i % 3 === column));
      }
      // What the decoder gets: the fed codes up to the end of the wrong ones, the repaired ones after.
      const { quantised, similarity } = await run({ codes: rows.input }, (p, { codes }) => {
        const quantised = codebookEntries(p, codes, config);
        return { quantised, similarity: groupSimilarity(quantised, config.groupSize) };
      });
      expectClose(quantised.data as Float32Array, values[`${name}.quant`].data as Float32Array);
      expectClose(similarity.data as Float32Array, values[`${name}.cosine_similarity`].data as Float32Array);
    });

    test('codebook entries, their similarity, and the way into the decoder', async () => {
      const results = await run({ codes: tensor(values['enc.indices']) }, (p, { codes }) => {
        const entries = codebookEntries(p, codes, config);
        return {
          entries,
          post: postQuantise(p, entries),
          similarity: groupSimilarity(entries, config.groupSize),
        };
      });
      expectClose(results.entries.data as Float32Array, values['dec.codebook_entries'].data as Float32Array);
      expectClose(results.entries.data as Float32Array, values['enc.quant'].data as Float32Array);
      expectClose(results.post.data as Float32Array, values['dec.post_quant'].data as Float32Array);
      expectClose(
        results.similarity.data as Float32Array,
        values['enc.cosine_similarity'].data as Float32Array,
      );
    });

    test('decoder tower', async () => {
      const decoderSide = config.imageSize / config.decoder.patchSize;
      const { hidden } = await run(
        {
          codes: tensor(values['enc.indices']),
          positions: positions(config.tokens),
          resize: resize(config.decoder.positionGrid, decoderSide),
        },
        (p, { codes, positions, resize }) => ({
          hidden: decoderTower(p, config, {
            quantised: codebookEntries(p, codes, config),
            positions,
            embedding: positionEmbedding(p, 'decoder.visual_model', config.decoder, resize),
          }),
        }),
      );
      const reference = values['dec.hidden_full'].data as Float32Array;
      expectClose((hidden.data as Float32Array).subarray(0, reference.length), reference);
    });

    test.each(Object.keys(values).filter((name) => /^(dec|forward)\.(t|short)\d+\.r\d+$/.test(name)))(
      '%s',
      async (name) => {
        const [, kind, tokens, size] = /^\w+\.(t|short)(\d+)\.r(\d+)$/.exec(name) as unknown as string[];
        const all = tensor(values['enc.indices']);
        const rows = values[name].shape[0];
        const given = kind === 'short' ? Number(tokens) : config.tokens;
        const data = Int32Array.from(
          { length: rows * given },
          (_, i) => all.data[Math.floor(i / given) * config.tokens + (i % given)] as number,
        );
        const pixels = await tokenizer.decode(new Tensor('int32', data, [rows, given]), {
          ...(kind === 't' && { tokens: Number(tokens) }),
          size: Number(size),
        });
        expect(pixels.dims).toEqual(values[name].shape);
        expectClose(pixels.data as Float32Array, values[name].data as Float32Array);
      },
    );

    describe('what the encoder hands to the quantiser', () => {
      let encoder: Executable;
      beforeAll(async () => {
        encoder = await backend.compile(encoderGraph(config), weights);
      });

      /** `h` of the first pass, or with a prefix of the second. */
      async function encode(
        images: Tensor,
        count: number,
        prefix?: Int32Array,
        prefixLength = 0,
      ): Promise<Float32Array> {
        const [batch, , size] = images.dims;
        const side = size / config.encoder.patchSize;
        const patches = side * side;
        const { groupSize, causalTokens } = config;
        const mask = attentionMask({
          patches,
          tokens: count,
          groupSize,
          causalTokens,
          patchesSeeLatents: false,
          latentsSeePatches: true,
        });
        const { h } = await encoder.run({
          images,
          positions: positions(count),
          resize: resize(config.encoder.positionGrid, side),
          visible: new Tensor('bool', mask, [patches + count, patches + count]),
          prefix: new Tensor('int32', prefix ?? new Int32Array(batch * count), [batch, count]),
          isPrefix: new Tensor(
            'bool',
            Uint8Array.from({ length: count }, (_, i) => Number(i < prefixLength)),
            [count],
          ),
          second: new Tensor('bool', Uint8Array.of(Number(prefix !== undefined)), [1]),
        });
        return h.data as Float32Array;
      }

      const fewer = Object.keys(values)
        .flatMap((name) => /^enc\.n(\d+)\.h$/.exec(name)?.[1] ?? [])
        .map(Number);

      test.each(fewer)('for the first %i tokens', async (count) => {
        expectClose(await encode(tensor<'float32'>(values.images), count), floats(values[`enc.n${count}.h`]));
      });

      test('for small images', async () => {
        expectClose(
          await encode(tensor<'float32'>(values.lowres_images), config.tokens),
          floats(values['enc.lowres.h']),
        );
      });

      test.each(noiseIndices)('in the second pass after wrong tokens from %i on', async (noiseIndex) => {
        const rows = values[`enc.noise${noiseIndex}.index`].data as Int32Array;
        const input = Int32Array.from({ length: rows.length / 3 }, (_, i) => rows[3 * i + 1]);
        const end = noiseIndex + (noiseIndex < config.causalTokens ? 1 : config.groupSize);
        const h = await encode(tensor<'float32'>(values.images), config.tokens, input, end);
        expectClose(h, floats(values[`enc.noise${noiseIndex}.h_second`]));
      });

      test('lies as far between two codes as the reference says', async () => {
        const h = await encode(tensor<'float32'>(values.images), config.tokens);
        const codebook = floats(golden(`${set}/tokenizer/model.safetensors`)['quantize.embedding.weight']);
        expectClose(codeGaps(h, codebook, config.codebookDim), floats(values['enc.gap']));
      });
    });

    test('8-bit pixels', async () => {
      const pixels = await tokenizer.decode(tensor<'int32'>(values['enc.indices']));
      const picture = pictureFromPixels(pixels);
      const expected = values['dec.uint8'].data;
      const rgb = picture.data.filter((_, i) => i % 4 !== 3);
      expect(rgb.length).toBe(expected.length);
      expect(Math.max(...rgb.map((byte, i) => Math.abs(byte - expected[i])))).toBeLessThanOrEqual(1);
    });
  });
});

/** For every latent: squared distance to the second nearest code minus that to the nearest, all of unit length. */
function codeGaps(h: Float32Array, codebook: Float32Array, dim: number): number[] {
  const unitRows = (data: Float32Array) =>
    Array.from({ length: data.length / dim }, (_, i) => {
      const row = Array.from(data.subarray(i * dim, (i + 1) * dim));
      const norm = Math.hypot(...row);
      return row.map((x) => x / norm);
    });
  const codes = unitRows(codebook);
  return unitRows(h).map((row) => {
    const distances = codes.map((code) => code.reduce((sum, x, i) => sum + (x - row[i]) ** 2, 0));
    const [best, second] = distances.sort((a, b) => a - b);
    return second - best;
  });
}
