// Makes an official-looking DetailFlow checkpoint of full size with random weights, for benchmarks.
//   node tools/make-checkpoint.mjs OUT [--tokens 128|256|512] [--with-repa] [--decoder listed|released]
// OUT/tokenizer and OUT/ar hold config.json, config.yaml and checkpoints/0000000.pt; names and shapes are those of
// tests/fixtures/golden/official_keys.json; --decoder released makes the smaller towers of the released checkpoints instead
// (docs/method.md section 3: 12 encoder layers, a decoder 768 wide).
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { writeTorchCheckpoint } from '@detailflow/checkpoint/node';
import { randomWeight as tensor } from './random-weights.mjs';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    tokens: { type: 'string', default: '128' },
    'with-repa': { type: 'boolean', default: false },
    decoder: { type: 'string', default: 'listed' },
  },
});
const [out] = positionals;
const tokens = Number(values.tokens);
if (!out || ![128, 256, 512].includes(tokens)) {
  console.error(
    'usage: node tools/make-checkpoint.mjs OUT [--tokens 128|256|512] [--with-repa] [--decoder listed|released]',
  );
  process.exit(2);
}

const keys = JSON.parse(
  await readFile(new URL('../tests/fixtures/golden/official_keys.json', import.meta.url), 'utf8'),
);
const withTokens = (name, shape) =>
  /latent_tokens|latent_pos_embed|refined_tokens/.test(name) ? [1, tokens, shape[2]] : shape;
/** The decoder of the released checkpoints is 768 wide, and only 12 layers of the encoder are used. */
function released(name, shape) {
  if (values.decoder !== 'released') return shape;
  const layer = /^encoder\.visual_model\.encoder\.layers\.(\d+)\./.exec(name);
  if (layer && Number(layer[1]) >= 12) return undefined;
  if (!/^(decoder|post_quant_conv)\./.test(name)) return shape;
  return shape.map((extent) => ({ 1152: 768, 4304: 3072 })[extent] ?? extent);
}

const stateDict = (table) =>
  new Map(
    Object.entries(table)
      .filter(([name]) => values['with-repa'] || !/^repa_model|^global_token_proj/.test(name))
      .filter(([name]) => name !== 'quantize.codebook_used')
      .map(([name, [, shape]]) => [name, released(name, withTokens(name, shape))])
      .filter(([, shape]) => shape !== undefined)
      .map(([name, shape]) => [name, tensor(name, shape)]),
  );

async function part(name, config, yaml, root) {
  const folder = path.join(out, name, 'checkpoints');
  await mkdir(folder, { recursive: true });
  await writeFile(path.join(out, name, 'config.json'), `${JSON.stringify(config, null, 2)}\n`);
  await writeFile(path.join(out, name, 'config.yaml'), yaml);
  await writeTorchCheckpoint(path.join(folder, '0000000.pt'), root);
  console.log(path.join(out, name));
}

await part(
  'tokenizer',
  {
    image_size: 256,
    max_image_size: 256,
    codebook_size: 8192,
    codebook_embed_dim: 8,
    codebook_l2_norm: true,
    num_codebooks: 1,
    enc_type: 'siglip2',
    dec_type: 'siglip2',
    num_latent_tokens: tokens,
    enc_patch_size: 16,
    dec_patch_size: 16,
    causal_encoder: true,
    causal_decoder: false,
    group_size: 8,
    causal_num: null,
    correction_training: true,
  },
  'degradation_power: 1.5\n',
  { model: stateDict(keys.tokenizer_128_tokens), steps: 0 },
);
await part(
  'ar',
  {
    dim: 1024,
    n_layer: 24,
    n_head: 16,
    n_kv_head: null,
    multiple_of: 256,
    ffn_dim_multiplier: null,
    rope_base: 10000,
    norm_eps: 1e-5,
    num_classes: 1000,
    model_type: 'c2i',
    vocab_size: 8192,
    cls_token_num: 1,
    block_size: tokens,
    learnable_tok_embeddings: true,
    group_size: 8,
    causal_num: null,
  },
  'gpt_model: GPT-L\n',
  { ema: stateDict(keys.gpt_l_128_tokens), steps: 0 },
);
