import type { HalfRule } from '@detailflow/checkpoint';

const names = {
  same: [
    ['scales', 'patch_nums'],
    ['heads', 'num_heads'],
    ['normEpsilon', 'norm_eps'],
    ['largestDrawn', 'max_pn'],
    ['invalidCodes', 'invalid_ids'],
    ['refinement', 'quant_resi'],
    ['isCosine', 'using_znorm'],
  ],
} as const;

const tokenizer = {
  ...names,
  places: [['model'], ['state_dict'], ['trainer', 'vae_local'], []],
  sections: ['tokenizer', 'vae'],
} as const;

const transformer = {
  ...names,
  places: [['trainer', 'var_wo_ddp'], ['model'], ['module'], ['state_dict'], []],
  sections: ['ar', 'var'],
} as const;

/** How the halves of VAR's models are known. */
export const varRules: { readonly tokenizer: HalfRule; readonly ar: HalfRule } = {
  tokenizer: {
    ...tokenizer,
    what: 'a tokenizer of VAR',
    matches: (weights) =>
      weights.has('encoder.down.0.block.0.conv1.weight') && weights.has('quantize.embedding.weight'),
  },
  ar: {
    ...transformer,
    // FlexVAR's training has a list of scales, too, but is drawn along others.
    settingsAt: [['trainer', 'config'], ['args']],
    what: 'a transformer of VAR',
    matches: (weights) => weights.has('word_embed.weight') && weights.get('pos_1LC')?.shape.length === 3,
  },
};

/** How those of FlexVAR's are known; its tokenizers have the names of LlamaGen's. */
export const flexvarRules: { readonly tokenizer: HalfRule; readonly ar: HalfRule } = {
  tokenizer: {
    ...tokenizer,
    what: 'a tokenizer of FlexVAR',
    matches: (weights) =>
      weights.has('encoder.conv_blocks.0.res.0.conv1.weight') && weights.has('quantize.embedding.weight'),
  },
  ar: {
    ...transformer,
    what: 'a transformer of FlexVAR',
    matches: (weights) => weights.has('word_embed.weight') && weights.get('pos_1LC')?.shape.length === 4,
  },
};
