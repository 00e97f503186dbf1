import { existsSync } from 'node:fs';
import type { FileTree, OfficialCheckpoint } from '@detailflow/checkpoint';
import { bytesSource } from '@detailflow/core';
import { officialTokenizerConfig } from '@detailflow/tokenizer';

/** A model that its authors have released. */
export interface ReleasedModel {
  /** What stands for it where a model is named. */
  readonly name: string;
  readonly tokenizer: string;
  readonly ar: string;
  readonly tokens: number;
  /** Side of its pictures in pixels. */
  readonly imageSize: number;
  /** Bytes to fetch, rounded. */
  readonly bytes: number;
  readonly license: string;
}

const TOKENIZER_BYTES = 2.77e9;
const AR_BYTES = 2.61e9;

/** The organisation was ByteFlow-AI once; the hub leads from there. */
const ORGANISATION = 'hf:ByteVisionLab';

/** The released DetailFlow models. */
export const releasedModels: readonly ReleasedModel[] = [
  [16, 128],
  [32, 256],
  [64, 512],
].map(([number, tokens]) => ({
  name: `detailflow-${number}`,
  tokenizer: `${ORGANISATION}/DetailFlow-${number}`,
  ar: `${ORGANISATION}/DetailFlow-${number}-GPT-L`,
  tokens,
  imageSize: 256,
  bytes: TOKENIZER_BYTES + AR_BYTES,
  license: 'Apache-2.0',
}));

/** The released model of a name, unless something on disk is called so. */
export function releasedModel(text: string): ReleasedModel | undefined {
  const found = releasedModels.find(({ name }) => name === text.toLowerCase());
  return found && !existsSync(text) ? found : undefined;
}

/**
 * An AR folder with its config.json, which released ones may lack: then it is that of GPT-L for 1000 classes with the sizes
 * of the tokenizer. Whether the weights are of that shape is checked when they are opened.
 */
export async function completedAr(tree: FileTree, tokenizer: OfficialCheckpoint): Promise<FileTree> {
  if (await tree.exists('config.json')) return tree;
  const hasWeights =
    (await tree.exists('ema.safetensors')) ||
    (await tree.list('checkpoints')).some((name) => name.endsWith('.pt'));
  if (!hasWeights) return tree;
  const { config, args, vision, weights } = tokenizer;
  const { tokens, groupSize, causalTokens, codebookSize } = officialTokenizerConfig({
    ...{ config, args, vision, weights },
  });
  const completed = {
    ...{ dim: 1024, n_layer: 24, n_head: 16, num_classes: 1000, multiple_of: 256 },
    ...{ model_type: 'c2i', cls_token_num: 1, learnable_tok_embeddings: true },
    ...{ vocab_size: codebookSize, block_size: tokens, group_size: groupSize, causal_num: causalTokens },
  };
  const bytes = new TextEncoder().encode(JSON.stringify(completed));
  return {
    name: tree.name,
    exists: async (path) => path === 'config.json' || tree.exists(path),
    list: (folder) => tree.list(folder),
    open: async (path) =>
      path === 'config.json' ? bytesSource(bytes, `${tree.name}/config.json (GPT-L)`) : tree.open(path),
  };
}
