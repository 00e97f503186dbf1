/**
 * Parts of names in the order in which the official models make them, which is the order of torch's `named_parameters()` and so of the
 * numbers by which its optimisers know parameters. Source: the state dicts of official checkpoints.
 */
const order: readonly string[] = [
  ...['latent_pos_embed', 'latent_tokens', 'refined_tokens', 'mask_token'],
  ...['embeddings', 'patch_embedding', 'position_embedding', 'encoder', 'visual_model', 'post_layernorm'],
  ...[
    'decoder',
    'to_pixel',
    'quant_conv',
    'post_quant_conv',
    'refine_conv',
    'projection',
    'global_token_proj',
  ],
  ...['quantize', 'layer_norm1', 'self_attn', 'k_proj', 'v_proj', 'q_proj', 'out_proj', 'layer_norm2', 'mlp'],
  ...['fc1', 'fc2', 'cls_embedding', 'tok_embeddings', 'layers', 'attention', 'wqkv', 'wo', 'feed_forward'],
  ...['w1', 'w3', 'w2', 'attention_norm', 'ffn_norm', 'norm', 'output', 'spe_tok_embeddings'],
  ...['weight', 'bias'],
];
const ranks = new Map(order.map((part, i) => [part, i]));

/** Names of parameters in the order of the official state dict; unknown ones last. */
export const inOfficialOrder = (names: Iterable<string>): string[] => [...names].sort(compare);

function compare(a: string, b: string): number {
  const [one, other] = [a.split('.'), b.split('.')];
  const at = one.findIndex((part, i) => part !== other[i]);
  if (at < 0) return one.length - other.length;
  if (other[at] === undefined) return 1;
  return rank(one[at]) - rank(other[at]) || (one[at] < other[at] ? -1 : 1);
}

/** Layers go by their numbers. */
const rank = (part: string): number =>
  /^\d+$/.test(part) ? Number(part) : (ranks.get(part) ?? order.length);
