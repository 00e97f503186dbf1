import { describe, expect, it } from 'vitest';
import { goldenJson } from '../../../tests/golden';
import { createResolutionMap, type ResolutionMapOptions } from './resolution-map';

const tables = goldenJson('tables.json');

const official: ResolutionMapOptions = {
  tokens: 128,
  groupSize: 8,
  maxImageSize: 256,
  encoderPatch: 16,
  decoderPatch: 16,
};

/** A map or function of ours in the form of the tables: string keys. */
const byKey = (keys: readonly number[], value: (key: number) => number) =>
  Object.fromEntries(keys.map((key) => [String(key), value(key)]));

const dynamic = { ...goldenJson('tables-512.json'), S: goldenJson('S/golden.json').tables };

describe.each(Object.keys(dynamic))('the official tables for images of many sizes: %s', (name) => {
  const { settings, ...table } = dynamic[name];
  const map = createResolutionMap({
    tokens: settings.num_latent_tokens,
    groupSize: settings.group_size,
    causalNum: settings.causal_num,
    maxImageSize: settings.max_image_size,
    power: settings.degradation_power,
    encoderPatch: settings.patch,
    decoderPatch: settings.patch,
  });

  it('has the sizes, and the token counts of each', () => {
    expect(map.bestResolutions).toEqual(table.best_res);
    expect(map.bestTokens).toEqual(table.best_token);
    expect(Object.fromEntries(map.decResToBestToken)).toEqual(table.decres2besttoken);
    expect(Object.fromEntries(map.decResToMinToken)).toEqual(table.decres2mintoken);
    expect(Object.fromEntries(map.decResToMaxToken)).toEqual(table.decres2maxtoken);
    expect(byKey(map.tokenCounts, map.tokenToRes)).toEqual(table.token2res);
    expect(byKey(map.tokenCounts, map.tokenToDecOutRes)).toEqual(table.token2dec_out_res);
  });

  it('draws as many tokens at the size that they came from', () => {
    for (const [size, n] of map.decResToBestToken) expect(map.tokenToDecOutRes(n)).toBe(size);
  });
});

describe.each(Object.keys(tables.resolution))('the official maps of %s', (name) => {
  const table = tables.resolution[name];
  const map = createResolutionMap({
    tokens: table.args.max_token_num,
    groupSize: table.args.group_size,
    causalNum: table.args.causal_num,
    maxImageSize: table.args.max_img_size,
    power: table.args.p,
    encoderPatch: table.args.enc_patch_size,
    decoderPatch: table.args.dec_patch_size,
  });

  it('has the token counts and their sizes', () => {
    expect(map.causalNum).toBe(table.causal_num);
    expect(map.tokens / map.groupSize).toBe(table.max_group_num);
    expect(byKey(map.tokenCounts, map.tokenToRes)).toEqual(table.token2res);
    expect(byKey(map.tokenCounts, map.tokenToEncRes)).toEqual(table.token2enc_res);
    expect(byKey(map.tokenCounts, map.tokenToDecRes)).toEqual(table.token2dec_res);
    expect(byKey(map.tokenCounts, map.tokenToDecOutRes)).toEqual(table.token2dec_out_res);
  });

  it('has the token counts of every size', () => {
    expect(Object.fromEntries(map.decResToBestToken)).toEqual(table.decres2besttoken);
    expect(Object.fromEntries(map.encResToBestToken)).toEqual(table.encres2besttoken);
    expect(Object.fromEntries(map.decResToMinToken)).toEqual(table.decres2mintoken);
    expect(Object.fromEntries(map.decResToMaxToken)).toEqual(table.decres2maxtoken);
    expect(map.bestResolutions).toEqual(table.best_res);
    expect(map.bestTokens).toEqual(table.best_token);
  });

  it('finds the closest resolution', () => {
    const samples = table.find_closest_resolution;
    expect(byKey(Object.keys(samples).map(Number), map.findClosestResolution)).toEqual(samples);
  });

  it('draws noise indices', () => {
    for (const [t, { limit, noise_idx }] of Object.entries<NoiseTable>(table.get_noise_token_idx)) {
      expect(map.noiseTokenLimit(Number(t))).toBe(limit);
      expect(noise_idx.map((_, draw) => map.noiseTokenIndex(draw, Number(t)))).toEqual(noise_idx);
    }
  });

  it('draws degradations', () => {
    const { cur_max_token_num, draw_range, draw_t_targetres_decres } = table.degradation_draw;
    expect(map.degradationLimit(cur_max_token_num)).toBe(draw_range[1] - 1);
    for (const [draw, tokens, targetRes, decRes] of draw_t_targetres_decres) {
      expect(map.degradation(draw)).toEqual({ tokens, targetRes, decRes });
    }
  });
});

interface NoiseTable {
  limit: number | null;
  noise_idx: (number | null)[];
}

describe('tokenToRes', () => {
  it.each<{ max_size: number; max_token_num: number; p: number; t_from_1: number[] }>(
    tables.token_res_map_func,
  )('of every n for $max_token_num tokens, $max_size px', ({ max_size, max_token_num, p, t_from_1 }) => {
    const map = createResolutionMap({ ...official, tokens: max_token_num, maxImageSize: max_size, power: p });
    expect(t_from_1.map((_, i) => map.tokenToRes(i + 1))).toEqual(t_from_1);
  });

  it('is exact where R(n) is an integer', () => {
    // (N - 1) = 64 and N - n = 16: R = 9 - 8 / 64^1.5 * 16^1.5 = 8.
    const map = createResolutionMap({ ...official, tokens: 65, groupSize: 1, maxImageSize: 9 });
    expect(map.tokenToRes(49)).toBe(8);
    expect(map.tokenToRes(48)).toBe(7);
    const linear = createResolutionMap({ ...official, tokens: 9, groupSize: 3, maxImageSize: 17, power: 1 });
    expect([1, 2, 3, 6, 9].map(linear.tokenToRes)).toEqual([1, 3, 5, 11, 17]);
  });
});

describe('set-ups beyond the official ones', () => {
  it('takes several groups one by one', () => {
    const map = createResolutionMap({ ...official, tokens: 32, groupSize: 4, causalNum: 8 });
    expect(map.tokenCounts).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 20, 24, 28, 32]);
    expect(map.noiseTokenLimit(8)).toBe(8);
    expect(map.noiseTokenLimit(12)).toBe(8);
    expect(map.noiseTokenLimit(16)).toBe(12);
    expect([6, 7, 8, 9, 11].map((draw) => map.noiseTokenIndex(draw, 16))).toEqual([6, 7, 8, 8, 8]);
    expect([7, 8, 9, 12, 28].map((draw) => map.degradation(draw).tokens)).toEqual([7, 8, 12, 12, 28]);
  });

  it('knows no token by itself where the first group comes at once', () => {
    const map = createResolutionMap({ ...official, tokens: 32, causalNum: 0 });
    expect(map.tokenCounts).toEqual([8, 16, 24, 32]);
    expect([8, 16, 24, 32].map((t) => map.noiseTokenLimit(t))).toEqual([null, 8, 16, 24]);
    expect(map.noiseTokenIndex(0, 8)).toBeNull();
    expect([0, 7, 8, 15].map((draw) => map.noiseTokenIndex(draw, 24))).toEqual([0, 0, 8, 8]);
    expect([1, 8, 9, 24].map((draw) => map.degradation(draw).tokens)).toEqual([8, 8, 16, 24]);
    expect(() => map.noiseTokenLimit(1)).toThrow(/must be a token count: a multiple of 8 up to 32/);
  });

  it('keeps encoder and decoder patches apart', () => {
    const map = createResolutionMap({ ...official, encoderPatch: 32, decoderPatch: 8 });
    expect([map.tokenToRes(16), map.tokenToEncRes(16), map.tokenToDecRes(16)]).toEqual([44, 64, 48]);
    expect(map.encResToBestToken.get(64)).toBe(16);
    expect(map.bestResolutions.every((size) => size % 8 === 0)).toBe(true);
  });

  it('rounds odd image sizes up to whole patches', () => {
    const map = createResolutionMap({ ...official, maxImageSize: 100 });
    expect(map.tokenToRes(128)).toBe(100);
    expect(map.tokenToDecRes(128)).toBe(112);
    expect(map.decResToBestToken.get(112)).toBe(128);
    const tiny = createResolutionMap({ ...official, maxImageSize: 5 });
    expect(tiny.bestResolutions).toEqual([16]);
    expect(tiny.tokenToDecOutRes(1)).toBe(16);
  });

  it('gives the larger token count of equally near ones and the smaller of equally near sizes', () => {
    const map = createResolutionMap({ ...official, tokens: 512 });
    expect([map.tokenToRes(1), map.tokenToRes(2), map.decResToMinToken.get(16)]).toEqual([1, 1, 1]);
    const flat = createResolutionMap({ ...official, maxImageSize: 1 });
    expect(flat.decResToBestToken.get(16)).toBe(128);
    expect(map.findClosestResolution(24)).toBe(16);
    expect(map.findClosestResolution(24.1)).toBe(32);
  });

  it('has nothing to degrade when one group is all', () => {
    const map = createResolutionMap({ ...official, tokens: 8 });
    expect(map.degradationLimit()).toBe(0);
    expect(() => map.degradation(1)).toThrow(/nothing to draw from/);
  });
});

describe('errors', () => {
  it.each<[Partial<ResolutionMapOptions>, RegExp]>([
    [{ tokens: 1 }, /tokens is 1.*2 \.\. 65536/],
    [{ tokens: 1e9 }, /tokens/],
    [{ tokens: 130 }, /groups of 8.*multiple/],
    [{ groupSize: 0 }, /groupSize/],
    [{ groupSize: 256 }, /groupSize/],
    [{ causalNum: 12 }, /causalNum is 12/],
    [{ causalNum: -8 }, /causalNum is -8.*0 \.\. 128/],
    [{ causalNum: 136 }, /causalNum/],
    [{ maxImageSize: 255.5 }, /maxImageSize/],
    [{ power: 0 }, /power/],
    [{ power: 1000 }, /finite/],
    [{ power: Number.NaN }, /power/],
    [{ encoderPatch: 0 }, /encoderPatch/],
    [{ decoderPatch: -16 }, /decoderPatch/],
  ])('refuses %j', (change, message) => {
    expect(() => createResolutionMap({ ...official, ...change })).toThrow(
      expect.objectContaining({ code: 'config', message: expect.stringMatching(message) }),
    );
  });

  it('refuses arguments out of range', () => {
    const map = createResolutionMap(official);
    for (const call of [
      () => map.tokenToRes(0),
      () => map.tokenToDecRes(129),
      () => map.noiseTokenLimit(9),
      () => map.noiseTokenIndex(120, 128),
      () => map.degradation(0),
      () => map.degradation(121),
      () => map.findClosestResolution(Number.NaN),
    ]) {
      expect(call).toThrow(expect.objectContaining({ code: 'invalid-argument' }));
    }
  });
});
