import { type Backend, pictureFromPixels, Tensor } from '@detailflow/core';
import { sampleTokens } from '@detailflow/sampler';
import {
  createScaleTokenizer,
  createScaleTokenModel,
  editMask,
  generateSmooth,
  parseScales,
  type Region,
  refinementIndex,
  regionMask,
  type ScaleTokenizer,
  type ScaleTokenModel,
  varByte,
  varPicture,
} from '@detailflow/var';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { devices, openDevice } from './devices';
import { expectClose, floats, golden, goldenJson } from './golden';
import { firstRows, flexVarParts, floatTensor, integers, integerTensor, varParts } from './golden-family';

const values = golden('family/var/golden_var.safetensors');
const vaeValues = golden('family/var/golden_vae.safetensors');
const json = goldenJson('family/var/golden.json');
const ops = golden('family/var/ops.safetensors');
const tables = goldenJson('family/var/tables.json');

const half = (x: number) => (x + 1) / 2;

/** RGB bytes [H, W, 3] of a picture, one apart at most. */
function expectBytes(data: Uint8ClampedArray, reference: ArrayLike<number>): void {
  const rgb = data.filter((_, i) => i % 4 !== 3);
  expect(rgb.length).toBe(reference.length);
  expect(Math.max(...rgb.map((x, i) => Math.abs(x - reference[i])))).toBeLessThanOrEqual(1);
}

describe.each(devices)('VAR recipes on the %s backend', (device) => {
  let backend: Backend;
  let tokenizer: ScaleTokenizer;
  let model: ScaleTokenModel;
  let parts: Awaited<ReturnType<typeof varParts>>;
  const labels = integers(values['gen.labels']);
  beforeAll(async () => {
    backend = await openDevice(device);
    parts = await varParts();
    const { tokenizerConfig, vae, config, weights } = parts;
    tokenizer = createScaleTokenizer({ config: tokenizerConfig, weights: vae, backend });
    model = createScaleTokenModel({
      ...{ config, weights, backend, tokenizer: { config: tokenizerConfig, weights: vae } },
    });
  });
  afterAll(() => backend.close());

  test.each(device === 'webgpu' ? [1] : [0, 1])('zero-shot editing %i: tokens and picture', async (j) => {
    const { y0_x0_y1_x1: sides, inpainting, cfg } = json.edit[j];
    const [top, left, bottom, right] = sides;
    const last = parts.scales[parts.scales.length - 1];
    const region = regionMask({ top, left, bottom, right }, last, inpainting ? 'outside' : 'inside');
    expect(Array.from(region.data)).toEqual(Array.from(values[`edit${j}.mask`].data));
    const keep = { codes: integerTensor(vaeValues['enc.codes']), mask: editMask(region, parts.scales) };
    let codes: Tensor<'int32'> | undefined;
    for await (const step of sampleTokens({ model, labels, keep, cfg, topK: 1, topP: 1 })) {
      codes = await step.tokens();
    }
    const mixed = codes as Tensor<'int32'>;
    const drawn = integers(values[`edit${j}.tokens`]);
    const given = integers(keep.codes);
    const count = model.tokens;
    expect(integers(mixed)).toEqual(drawn.map((code, i) => (keep.mask.data[i % count] ? given[i] : code)));
    const pixels = (await tokenizer.decode(mixed)).data;
    expectClose(Array.from(pixels, half), floats(values[`edit${j}.image`]));
  });

  test('more_smooth: the sum and the picture after every scale', async () => {
    const { cfg, top_k: topK, top_p: topP } = json.config.smooth;
    const noise = floatTensor(values['gen.noise']);
    let k = 0;
    for await (const step of generateSmooth({
      ...{ model, backend, labels, cfg, topK, topP, noise },
      tokenizer: { config: parts.tokenizerConfig, weights: parts.vae },
    })) {
      expectClose(step.map.data, floats(values[`gen.smooth.fhat.s${k}`]));
      k++;
      expect([step.scale, step.scales]).toEqual([k, parts.scales.length]);
      if (k === parts.scales.length) {
        expectClose(Array.from((await step.pixels()).data, half), floats(values['gen.smooth.image']));
        expect((await step.image(1)).width).toBe(12);
      }
    }
    expect(k).toBe(parts.scales.length);
  });

  test.each(device === 'webgpu' ? [1] : [0, 1])('another list of scales %i: codes and picture', async (j) => {
    const other = tokenizer.withScales(parseScales(json.config.other_pn[j]));
    const codes = await other.encode(floatTensor(vaeValues[`other${j}.image`]));
    expect(integers(codes)).toEqual(integers(vaeValues[`other${j}.codes`]));
    const pixels = await other.decode(codes);
    expect(pixels.dims).toEqual(vaeValues[`other${j}.rec`].shape);
    expectClose(pixels.data, floats(vaeValues[`other${j}.rec`]));
  });

  test('codes by cosine similarity', async () => {
    const config = { ...parts.tokenizerConfig, isCosine: true };
    const cosine = createScaleTokenizer({ config, weights: parts.vae, backend });
    const codes = await cosine.encode(firstRows(vaeValues.images, 2));
    expect(integers(codes)).toEqual(integers(vaeValues['znorm.codes']));
  });

  test('bytes of a greedy picture', async () => {
    const pixels = await tokenizer.decode(integerTensor(values['gen.greedy.tokens']));
    const size = 12 * 12 * 3;
    for (const i of [0, 1]) {
      const bytes = values['gen.greedy.uint8'].data as Uint8Array;
      expectBytes(varPicture(pixels, i).data, bytes.subarray(i * size, (i + 1) * size));
    }
  });
});

describe('more_smooth', () => {
  let backend: Backend;
  beforeAll(async () => {
    backend = await openDevice('cpu');
  });
  afterAll(() => backend.close());

  async function smooth() {
    const { tokenizerConfig, vae, config, weights } = await varParts();
    const tokenizer = { config: tokenizerConfig, weights: vae };
    return { tokenizer, backend, model: createScaleTokenModel({ config, weights, backend, tokenizer }) };
  }

  async function lastMap(options: Parameters<typeof generateSmooth>[0]): Promise<number[]> {
    let map: number[] = [];
    for await (const step of generateSmooth(options)) map = Array.from(step.map.data);
    return map;
  }

  test('the same seed gives the same picture in any batch', async () => {
    const made = await smooth();
    const one = await lastMap({ ...made, labels: [3], seed: 8 });
    const two = await lastMap({ ...made, labels: [5, 3], seed: 7 });
    expectClose(two.slice(one.length), one, 1e-5);
    expect(await lastMap({ ...made, labels: [3], seed: 9 })).not.toEqual(one);
  });

  test('stops when aborted', async () => {
    const controller = new AbortController();
    const steps = generateSmooth({ ...(await smooth()), labels: [1], signal: controller.signal });
    await steps.next();
    controller.abort(new Error('enough'));
    await expect(steps.next()).rejects.toThrow('enough');
  });

  test('refuses FlexVAR, other noise and wrong settings', async () => {
    const made = await smooth();
    const { tokenizerConfig, vae, config, weights } = await flexVarParts([1, 2, 3, 4, 6]);
    const tokenizer = { config: tokenizerConfig, weights: vae };
    const flex = {
      tokenizer,
      backend,
      model: createScaleTokenModel({ config, weights, backend, tokenizer }),
    };
    const noise = new Tensor('float32', new Float32Array(2), [1, 1, 2]);
    for (const options of [
      { ...flex, labels: [1] },
      { ...made, labels: [1], noise },
      { ...made, labels: [1], topK: -1 },
      { ...made, labels: [1], topP: 2 },
      { ...made, labels: [1], cfg: Number.NaN },
      { ...made, labels: [99] },
      { ...made, labels: [] },
    ]) {
      await expect(lastMap(options)).rejects.toMatchObject({ code: 'invalid-argument' });
    }
  });
});

describe('the rules of VAR and FlexVAR', () => {
  test.each([1, 2, 3, 4, 5, 6, 8])('a mask of 9 x 9 at %i', (side) => {
    const scale = { rows: side, columns: side };
    const mask = { rows: 9, columns: 9, data: floats(ops['edit_mask.in']) };
    const kept = editMask(mask, [scale]);
    expect(kept.dims).toEqual([side * side]);
    expect([...kept.data]).toEqual(integers(ops[`edit_mask.${side}`]));
  });

  test('scales of up to three places are kept whole', () => {
    const mask = { rows: 4, columns: 4, data: new Float32Array(16) };
    expect([...editMask(mask, parseScales([1, [1, 3], 2])).data]).toEqual([1, 1, 1, 1, 0, 0, 0, 0]);
  });

  test('borders are rounded half to even, and lie in the picture', () => {
    const scale = { rows: 5, columns: 5 };
    const rows = (top: number, bottom: number) => {
      const { data } = regionMask({ top, bottom, left: 0, right: 1 }, scale, 'inside');
      return Array.from({ length: 5 }, (_, row) => data[row * 5]);
    };
    expect(rows(0.1, 0.5)).toEqual([1, 1, 0, 0, 0]); // 0.5 -> 0, 2.5 -> 2
    expect(rows(0.3, 0.7)).toEqual([0, 0, 1, 1, 0]); // 1.5 -> 2, 3.5 -> 4
    const wrong: Region[] = [
      { top: -0.1, left: 0, bottom: 1, right: 1 },
      { top: 0.5, left: 0, bottom: 0.2, right: 1 },
      { top: 0, left: 0, bottom: 1, right: Number.NaN },
    ];
    for (const region of wrong) {
      expect(() => regionMask(region, scale, 'inside')).toThrow(/the region/);
    }
    expect(() => editMask({ rows: 2, columns: 2, data: [0, 1, 1] }, [scale])).toThrow(/3 numbers for 2 x 2/);
    expect(() => editMask({ rows: 1, columns: 1, data: [2] }, [scale])).toThrow(/from 0 to 1/);
  });

  test('which convolution refines a scale', () => {
    for (const [name, indices] of Object.entries<number[]>(tables.phi_index)) {
      const [count, scales] = (/^K(\d+) of (\d+) scales$/.exec(name) as RegExpExecArray).slice(1).map(Number);
      const phi = { kind: 'shared', count, ratio: 0.5 } as const;
      expect(indices.map((_, k) => refinementIndex(phi, k, scales))).toEqual(indices);
    }
    for (const [count, indices] of Object.entries<number[]>(tables.phi_index_not_shared)) {
      const phi = { kind: 'each', count: Number(count), ratio: 0.5 } as const;
      expect(indices.map((_, k) => refinementIndex(phi, k, indices.length))).toEqual(indices);
    }
  });

  test('bytes of pixels: VAR cuts, FlexVAR rounds', () => {
    const input = floats(ops['uint8.in']);
    expect(Array.from(input, varByte)).toEqual(Array.from(ops['uint8.var'].data));
    const bright = new Float32Array(3 * input.length);
    for (let c = 0; c < 3; c++)
      bright.set(
        input.map((x) => 1.2 * x),
        c * input.length,
      );
    const pixels = new Tensor('float32', bright, [1, 3, 1, input.length]);
    const bytes = pictureFromPixels(pixels).data.filter((_, i) => i % 4 === 0);
    const reference = ops['uint8.flexvar_of_1.2x'].data as Uint8Array;
    expect(Math.max(...bytes.map((x, i) => Math.abs(x - reference[i])))).toBeLessThanOrEqual(1);
  });
});

describe.each(devices)('FlexVAR recipes on the %s backend', (device) => {
  const vae = golden('family/flexvar/golden_vae.safetensors');
  const flex = goldenJson('family/flexvar/golden.json');
  let backend: Backend;
  let tokenizer: ScaleTokenizer;
  beforeAll(async () => {
    backend = await openDevice(device);
    const { tokenizerConfig, vae: weights } = await flexVarParts(flex.config.patch_nums);
    tokenizer = createScaleTokenizer({ config: tokenizerConfig, weights, backend });
  });
  afterAll(() => backend.close());

  test('other lists of scales', async () => {
    const trained = tokenizer.withScales(parseScales(flex.config.train_pn));
    expect(integers(await trained.encode(firstRows(vae.images, 2)))).toEqual(integers(vae['enc2.codes']));
  });

  test('a picture that is not square', async () => {
    const wide = tokenizer.withScales(parseScales([flex.wide_grid]));
    const codes = await wide.encode(floatTensor(vae['wide.image']));
    expect(integers(codes)).toEqual(integers(vae['wide.codes']));
    const pixels = await wide.decode(codes);
    expect(pixels.dims).toEqual(vae['wide.dec'].shape);
    expectClose(pixels.data, floats(vae['wide.dec']));
  });
});
