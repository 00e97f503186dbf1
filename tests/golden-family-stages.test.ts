import { codeVectors, forward, groupWeights, parameterAccess, placeMask } from '@detailflow/blocks';
import { type Backend, type Graph, reshape, Tensor, trace, transpose, type Value } from '@detailflow/core';
import {
  gptConfigOf,
  gptSettings,
  textForward,
  textGptParameters,
  vqConfigOf,
  vqLatents,
  vqParameters,
  vqPixels,
} from '@detailflow/llamagen';
import { placeKinds, sequenceIds } from '@detailflow/train';
import {
  latentMap,
  mapPixels,
  parseScales,
  scaleCodes,
  scaleForward,
  scaleInputs,
  scaleTokenizerParameters,
  scaleTransformerParameters,
  summedMap,
} from '@detailflow/var';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { devices, openDevice } from './devices';
import { expectClose, floats, type GoldenTensor, golden, goldenJson } from './golden';
import {
  expectSummary,
  familyWeights,
  firstRows,
  flexVarParts,
  floatTensor,
  integers,
  integerTensor,
  renamedVae,
  type Summary,
  varParts,
} from './golden-family';
import { textParts } from './golden-text-gpt';
import { layerInput, layerOutput, sumAfter, traceInside, userOf } from './inner-values';
import { runOnce } from './run-once';

type Golden = Record<string, GoldenTensor>;

/** The first numbers of a result, as many as the reference has. */
function expectBeginning(found: Tensor, reference: GoldenTensor): void {
  expectClose((found.data as Float32Array).subarray(0, reference.data.length), floats(reference));
}

/** The first four channels of the first image. */
function expectChannels(found: Tensor, reference: GoldenTensor): void {
  expect(found.dims.slice(2)).toEqual(reference.shape.slice(2));
  expectBeginning(found, reference);
}

/** Block outputs of a convolutional tower by its family's names, under LlamaGen's. */
function stage(graph: Graph, name: string): Value {
  if (/\.(conv_in|conv_out)$/.test(name)) return layerOutput(graph, name);
  if (/\.(downsample|upsample)$/.test(name)) return layerOutput(graph, `${name}.conv`);
  const isAttention = /\.attn\.\d+$|\.mid\.1$/.test(name);
  return sumAfter(graph, isAttention ? `${name}.proj_out` : `${name}.conv2`);
}

/** What the first attention adds to its scores. */
const biasOf = ({ nodes }: Graph): Value => nodes.find(({ op }) => op === 'attention')?.inputs[3] as Value;

describe.each(devices)('inner values on the %s backend', (device) => {
  let backend: Backend;
  beforeAll(async () => {
    backend = await openDevice(device);
  });
  afterAll(() => backend.close());

  test('the VQ tokenizer, from the images to the codes and back', async () => {
    const vq = golden('family/llamagen/golden_vq.safetensors');
    const weights = await familyWeights('llamagen/vq/vq_ds4_P.pt', 'model');
    const config = vqConfigOf(weights, { imageSize: 32 });
    const stages = {
      'enc.conv_in': 'encoder.conv_in',
      'enc.block0.res0': 'encoder.conv_blocks.0.res.0',
      'enc.block0': 'encoder.conv_blocks.0.downsample',
      'enc.block1.res0': 'encoder.conv_blocks.1.res.0',
      'enc.block_last.attn0': 'encoder.conv_blocks.2.attn.0',
      'enc.block_last': 'encoder.conv_blocks.2.attn.0',
      'enc.mid': 'encoder.mid.2',
      'dec.conv_in': 'decoder.conv_in',
      'dec.mid': 'decoder.mid.2',
      'dec.block0.attn_last': 'decoder.conv_blocks.0.attn.1',
      'dec.block0': 'decoder.conv_blocks.0.upsample',
      'dec.block_last': 'decoder.conv_blocks.2.res.1',
    };
    const codes = integerTensor(vq['enc.indices']);
    const flat = new Tensor('int32', codes.data, [2, 64]);
    const graph = traceInside(
      (g) => {
        const p = parameterAccess(g, vqParameters(config));
        const latents = vqLatents(p, config, g.input('images', 'f32', vq.images.shape));
        const given = g.input('codes', 'i32', [2, 64]);
        const vectors = codeVectors(given, p('quantize.embedding.weight'), config);
        const pixels = vqPixels(p, config, vectors, { rows: 8, columns: 8 });
        const map = (rows: Value) => reshape(transpose(rows, [0, 2, 1]), [2, 8, 8, 8]);
        return { h: map(latents), quant: map(vectors), pixels };
      },
      (inner) => ({
        ...Object.fromEntries(Object.entries(stages).map(([name, own]) => [name, stage(inner, own)])),
        'enc.z': layerOutput(inner, 'encoder.conv_out'),
        'dec.post_quant': layerOutput(inner, 'post_quant_conv'),
        'dec.norm_out': layerOutput(inner, 'decoder.norm_out'),
      }),
    );
    const found = await runOnce(backend, graph, weights, { images: floatTensor(vq.images), codes: flat });
    for (const name of Object.keys(stages)) expectChannels(found[name], vq[`${name}.ch0to4`]);
    expectChannels(found['dec.norm_out'], vq['dec.norm_out.ch0to4']);
    expectBeginning(found['enc.z'], vq['enc.z']);
    expectBeginning(found['dec.post_quant'], vq['dec.post_quant']);
    expectBeginning(found.h, vq['enc.h']);
    expectBeginning(found.quant, vq['enc.quant']);
    expectBeginning(found.quant, vq['dec.entries']);
    expectBeginning(found.pixels, vq['dec.pixels']);
  });

  test('the map of a picture that is not square', async () => {
    const vq = golden('family/llamagen/golden_vq.safetensors');
    const weights = await familyWeights('llamagen/vq/vq_ds4_P.pt', 'model');
    const config = vqConfigOf(weights, { imageSize: 32 });
    const graph = traceInside(
      (g) => {
        const p = parameterAccess(g, vqParameters(config));
        return { latents: vqLatents(p, config, g.input('images', 'f32', vq.images_rect.shape)) };
      },
      (inner) => ({ h: layerOutput(inner, 'quant_conv') }),
    );
    const { h } = await runOnce(backend, graph, weights, { images: floatTensor(vq.images_rect) });
    expect(h.dims).toEqual(vq['enc.rect.h'].shape);
    expectBeginning(h, vq['enc.rect.h']);
  });

  test.each([
    { set: 'c2i', family: 'llamagen', file: 'llamagen/gpt_c2i/c2i_P.pt', key: 'model' },
    { set: 'gqa', family: 'llamagen', file: 'llamagen/gpt_gqa/consolidated.pth', key: undefined },
    { set: 'par_g4', family: 'par', file: 'par/g4/PAR-P-4x.pt', key: 'model' },
    { set: 'par_g16', family: 'par', file: 'par/g16/PAR-P-16x.pt', key: 'model' },
  ])('GPT $set: after the first layer and the last norm', async ({ set, family, file, key }) => {
    const values = golden(`family/${family}/golden_${set}.safetensors`);
    const weights = await familyWeights(file, key);
    const settings = gptSettings(goldenJson(`family/${file.replace(/[^/]+$/, 'config.json')}`));
    const config = gptConfigOf(weights, settings);
    const { tokens } = config;
    const known = values.codes_reordered ?? values.codes;
    const [rows] = known.shape;
    const graph = traceInside(
      (g) => {
        const row = (data: Int32Array) => g.constant(data, [tokens], 'i32');
        const kinds = placeKinds(config);
        const logits = forward(groupWeights(g, config), config, {
          ids: g.input('ids', 'i32', [rows, tokens]),
          kinds: row(kinds),
          positions: row(kinds.map((_, place) => place)),
          visible: g.constant(placeMask(tokens, config), [tokens, tokens], 'bool'),
        });
        return { logits };
      },
      (inner) => ({
        layer0: sumAfter(inner, 'layers.0.feed_forward.w2'),
        norm: userOf(inner, 'norm.weight'),
      }),
    );
    const codes = Int32Array.from(integers(known));
    const ids = sequenceIds(config, { labels: integers(values.labels), rows: codes });
    const found = await runOnce(backend, graph, weights, { ids: new Tensor('int32', ids, [rows, tokens]) });
    // The official training feeds the last group as well, which nothing is predicted from.
    for (const name of ['layer0', 'norm']) {
      const size = tokens * config.dim;
      const reference = floats(values[`hidden.${name}.row0`]).subarray(0, size);
      expectClose((found[name].data as Float32Array).subarray(0, size), reference);
    }
  });

  test('text-conditional GPT: after the first layer and the last norm', async () => {
    const values = golden('family/llamagen/golden_t2i.safetensors');
    const { weights, config } = await textParts();
    const graph = traceInside(
      (g) => {
        const p = parameterAccess(g, textGptParameters(config));
        const features = g.input('features', 'f32', [1, 6, 20]);
        const mask = g.input('mask', 'bool', [1, 6]);
        return {
          logits: textForward(p, config, { features, mask, codes: g.input('codes', 'i32', [1, 15]) }),
        };
      },
      (inner) => ({
        layer0: sumAfter(inner, 'layers.0.feed_forward.w2'),
        norm: userOf(inner, 'norm.weight'),
        bias: biasOf(inner),
      }),
    );
    const found = await runOnce(backend, graph, weights, {
      features: firstRows(values['train.cond'], 1),
      mask: new Tensor('bool', Uint8Array.from(integers(values.cond_mask).slice(0, 6)), [1, 6]),
      codes: new Tensor('int32', (values.codes.data as Int32Array).slice(0, 15), [1, 15]),
    });
    expectBeginning(found.layer0, values['hidden.layer0.row0']);
    expectBeginning(found.norm, values['hidden.norm.row0']);
    const isSeen = Array.from(found.bias.data as Float32Array, (one) => Number(one === 0));
    expect(isSeen).toEqual(integers(values['train.mask.row0']));
  });

  describe.each([
    { name: 'VAR', folder: 'family/var', open: varParts, renamed: renamedVae },
    {
      name: 'FlexVAR',
      folder: 'family/flexvar',
      open: () => flexVarParts([1, 2, 3, 4, 6]),
      renamed: (stage: string) => stage,
    },
  ])('$name', ({ name, folder, open, renamed }) => {
    const vae: Golden = golden(`${folder}/golden_vae.safetensors`);
    const values: Golden = golden(`${folder}/golden_var.safetensors`);
    const json = goldenJson(`${folder}/golden.json`);
    let parts: Awaited<ReturnType<typeof open>>;
    beforeAll(async () => {
      parts = await open();
    });

    test('the tokenizer, block by block', async () => {
      const { tokenizerConfig: config, vae: weights, scales } = parts;
      const images = firstRows(vae.images, 2);
      const stages: Record<string, Summary> = json.vae_stages;
      // One dot more, so that the names of blocks are renamed as those of weights are.
      const own = (stage: string) => renamed(`${stage}.`).slice(0, -1);
      const [, places] = vae['enc.codes'].shape;
      const { rows, columns } = scales[scales.length - 1];
      const graph = traceInside(
        (g) => {
          const p = parameterAccess(g, scaleTokenizerParameters(config));
          const map = latentMap(p, config, g.input('images', 'f32', images.dims));
          const codes = g.input('codes', 'i32', [2, places]);
          const last = g.input('last', 'i32', [2, rows * columns]);
          const vectors = codeVectors(last, p('quantize.embedding.weight'), config);
          const full =
            config.coding === 'residual'
              ? summedMap(p, config, codes)
              : reshape(transpose(vectors, [0, 2, 1]), [2, config.codeDim, rows, columns]);
          return { map, pixels: mapPixels(p, config, full) };
        },
        (inner) => ({
          ...Object.fromEntries(Object.keys(stages).map((stage_) => [stage_, stage(inner, own(stage_))])),
          post: layerOutput(inner, 'post_quant_conv'),
        }),
      );
      const all = vae['enc.codes'].data as Int32Array;
      const count = rows * columns;
      const last = [1, 2].flatMap((row) => [...all.subarray(row * places - count, row * places)]);
      const found = await runOnce(backend, graph, weights, {
        ...{ images, codes: integerTensor(vae['enc.codes']) },
        last: new Tensor('int32', Int32Array.from(last), [2, count]),
      });
      expect(Object.keys(stages).length).toBeGreaterThan(20);
      for (const [key, summary] of Object.entries(stages)) {
        expectSummary(key, found[key].data as Float32Array, summary);
      }
      expectBeginning(found['encoder.conv_out'], vae['enc.h']);
      expectBeginning(found.map, vae['enc.f']);
      if (name === 'VAR') {
        expectBeginning(found.pixels, vae['rec.unclamped']);
        const { data, dims } = found['encoder.down.0.block.0'];
        const [, channels, height, width] = dims;
        const every = vae['enc.level0.image0'];
        const second = Array.from(data.subarray(0, channels * height * width)).filter(
          (_, i) => (i % width) % 2 === 0 && Math.floor(i / width) % 2 === 0,
        );
        expect(every.shape).toEqual([1, channels, height / 2, width / 2]);
        expectClose(second as number[], floats(every));
      } else {
        expectBeginning(found.post, vae['dec.post_quant']);
        expectBeginning(found.pixels, vae['dec.codes']);
      }
    });

    test('the transformer, block by block', async () => {
      const { tokenizerConfig, vae: weights, config } = parts;
      const labels = Int32Array.from(integers(values['tf.labels']));
      const codes = integerTensor(vae['enc.codes']);
      const { maps } = await runOnce(
        backend,
        trace((g) => {
          const p = parameterAccess(g, scaleTokenizerParameters(tokenizerConfig));
          return { maps: scaleInputs(p, tokenizerConfig, g.input('codes', 'i32', codes.dims)) };
        }),
        weights,
        { codes },
      );
      const stages: Record<string, Summary> = json.tf_stages;
      const graph = traceInside(
        (g) => {
          const p = parameterAccess(g, scaleTransformerParameters(config));
          const inputs = { labels: g.input('labels', 'i32', [2]), maps: g.input('maps', 'f32', maps.dims) };
          return { logits: scaleForward(p, config, inputs) };
        },
        (inner) => ({
          word_embed: layerOutput(inner, 'word_embed'),
          // Without a shared modulation the official module of this name hands on the condition.
          shared_ada_lin: userOf(inner, 'class_emb.weight'),
          head_nm: layerInput(inner, 'head'),
          ...Object.fromEntries(
            Array.from({ length: config.depth }, (_, i) => [
              [`blocks.${i}.attn`, layerOutput(inner, `blocks.${i}.attn.proj`)],
              [`blocks.${i}.ffn`, layerOutput(inner, `blocks.${i}.ffn.fc2`)],
              [`blocks.${i}`, sumAfter(inner, `blocks.${i}.ffn.fc2`)],
            ]).flat(),
          ),
          ...(config.positions === 'area' && { positions: userOf(inner, 'pos_1LC') }),
        }),
      );
      const feeds = { maps, labels: new Tensor('int32', labels, [2]) };
      const found = await runOnce(backend, graph, parts.weights, feeds);
      for (const [key, summary] of Object.entries(stages)) {
        const data = Array.from(found[key].data as Float32Array);
        // The first scale begins with the class, and has no word.
        const [, length, width] = found[key].dims;
        const of = key === 'word_embed' ? data.filter((_, i) => i % (length * width) >= width) : data;
        expectSummary(key, of, summary);
      }
      expectBeginning(found.logits, values['tf.logits']);
      if (name === 'FlexVAR') expectBeginning(found.positions, values['pos.s']);
    });
  });

  test.each([0, 1])("VAR's map of another list of scales %i", async (j) => {
    const { vae: weights, tokenizerConfig } = await varParts();
    const vae = golden('family/var/golden_vae.safetensors');
    const scales = parseScales(goldenJson('family/var/golden.json').config.other_pn[j]);
    const config = { ...tokenizerConfig, scales };
    const images = floatTensor(vae[`other${j}.image`]);
    const graph = trace((g) => {
      const p = parameterAccess(g, scaleTokenizerParameters(config));
      const map = latentMap(p, config, g.input('images', 'f32', images.dims));
      return { sum: summedMap(p, config, scaleCodes(p, config, map)) };
    });
    const { sum } = await runOnce(backend, graph, weights, { images });
    expect(sum.dims).toEqual(vae[`other${j}.fhat`].shape);
    expectBeginning(sum, vae[`other${j}.fhat`]);
  });

  test('VAR: the sum after every scale that was drawn, and what the next is fed with', async () => {
    const { vae: weights, tokenizerConfig: config, scales } = await varParts();
    const values = golden('family/var/golden_var.safetensors');
    const codes = integerTensor(values['gen.greedy.tokens']);
    const graph = trace((g) => {
      const p = parameterAccess(g, scaleTokenizerParameters(config));
      const given = g.input('codes', 'i32', codes.dims);
      const counts = (k: number) =>
        g.constant(
          Float32Array.from(scales, (_, i) => Number(i <= k)),
          [scales.length],
        );
      return {
        maps: scaleInputs(p, config, given),
        ...Object.fromEntries(scales.map((_, k) => [`s${k}`, summedMap(p, config, given, counts(k))])),
      };
    });
    const found = await runOnce(backend, graph, weights, { codes });
    let start = 0;
    for (const [k, { rows, columns }] of scales.entries()) {
      expectBeginning(found[`s${k}`], values[`gen.greedy.fhat.s${k}`]);
      if (k === 0) continue;
      const [, length, width] = found.maps.dims;
      const count = rows * columns;
      const maps = found.maps.data as Float32Array;
      // Rows of places become maps of channels.
      const fed = Array.from({ length: 2 * width * count }, (_, i) => {
        const [row, channel, place] = [
          Math.floor(i / (width * count)),
          Math.floor(i / count) % width,
          i % count,
        ];
        return maps[(row * length + start + place) * width + channel];
      });
      expectClose(fed, floats(values[`gen.greedy.next_in.s${k}`]));
      start += count;
    }
  });

  test('FlexVAR: the unit vectors of the codes of every scale', async () => {
    const { vae: weights, tokenizerConfig: config, scales } = await flexVarParts([1, 2, 3, 4, 6]);
    const vae = golden('family/flexvar/golden_vae.safetensors');
    const codes = new Tensor('int32', (vae['enc.codes'].data as Int32Array).slice(0, 66), [1, 66]);
    const graph = trace((g) => {
      const p = parameterAccess(g, scaleTokenizerParameters(config));
      const vectors = codeVectors(g.input('codes', 'i32', [1, 66]), p('quantize.embedding.weight'), config);
      return { vectors: transpose(vectors, [0, 2, 1]) };
    });
    const { vectors } = await runOnce(backend, graph, weights, { codes });
    const data = vectors.data as Float32Array;
    let start = 0;
    for (const [k, { rows, columns }] of scales.entries()) {
      const count = rows * columns;
      const map = Array.from({ length: config.codeDim }, (_, channel) => [
        ...data.subarray(channel * 66 + start, channel * 66 + start + count),
      ]).flat();
      expectClose(map, floats(vae[`enc.quant.s${k}`]));
      start += count;
    }
  });
});
