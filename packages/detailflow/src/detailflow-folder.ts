import type { FileTree } from '@detailflow/checkpoint';
import { fileLimits } from '@detailflow/core';

/** The part of a tree below a folder. */
export function subtree(tree: FileTree, folder: string): FileTree {
  const below = (path: string) => (path === '' ? folder : `${folder}/${path}`);
  return {
    name: `${tree.name}/${folder}`,
    open: (path) => tree.open(below(path)),
    exists: (path) => tree.exists(below(path)),
    list: (path) => tree.list(below(path)),
  };
}

const ofWhole = ['tokenizer/config.json', 'tokenizer.safetensors', 'tokenizer.safetensors.index.json'];

/** Whether a folder is laid out as a bundle or as an official model, or as one half of such a model. */
export async function isDetailFlowModel(tree: FileTree): Promise<boolean> {
  for (const path of ofWhole) if (await tree.exists(path)) return true;
  return isDetailFlowHalf(tree);
}

/** Which half of an official model a folder is; undefined for a whole model, and for what does not say. */
export async function officialHalf(tree: FileTree): Promise<'tokenizer' | 'ar' | undefined> {
  for (const path of ofWhole) if (await tree.exists(path)) return undefined;
  const keys = await configKeys(tree);
  if (keys.includes('format')) return undefined;
  if (keys.includes('num_latent_tokens')) return 'tokenizer';
  return keys.includes('n_layer') && keys.includes('group_size') ? 'ar' : undefined;
}

/** Whether a folder is one half of an official model: checkpoints, an EMA by itself, or a configuration that only DetailFlow writes. */
export async function isDetailFlowHalf(tree: FileTree): Promise<boolean> {
  if (await tree.exists('ema.safetensors')) return true;
  if ((await tree.list('checkpoints')).some((name) => name.endsWith('.pt'))) return true;
  const config = await configKeys(tree);
  return ownKeys.some((key) => config.includes(key));
}

/** Of a bundle's card, and of the arguments that only DetailFlow's tokenizer and AR model have. */
const ownKeys = [
  'format',
  'enc_type',
  'dec_type',
  'num_latent_tokens',
  'group_size',
  'learnable_tok_embeddings',
];

/** Keys of config.json; none where it is not there or cannot be read, which is for whoever opens it to say. */
async function configKeys(tree: FileTree): Promise<string[]> {
  if (!(await tree.exists('config.json'))) return [];
  const source = await tree.open('config.json');
  try {
    if (source.size > fileLimits.config.jsonBytes) return [];
    const value: unknown = JSON.parse(new TextDecoder().decode(await source.read(0, source.size)));
    return typeof value === 'object' && value !== null ? Object.keys(value) : [];
  } catch {
    return [];
  } finally {
    await source.close?.();
  }
}
