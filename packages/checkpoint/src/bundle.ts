import { DetailFlowError, type Weights } from '@detailflow/core';
import { type BundleCard, bundleFiles, parseBundleCard } from './bundle-card';
import { readJsonConfig } from './config-files';
import type { FileTree } from './file-tree';
import { withRoundedMatrices } from './rounded-tensors';
import { openWeightFiles, type WeightFiles } from './weight-files';

/** An open bundle. Weights are read when asked for; call `close` when done. */
export interface Bundle {
  readonly card: BundleCard;
  readonly tokenizer: Weights;
  /** Absent in bundles that hold a tokenizer only. */
  readonly ar?: Weights;
  /** Frees what it holds, files included. */
  close(): Promise<void>;
}

/**
 * Opens a bundle: a folder with config.json, tokenizer.safetensors and, where it generates, ar.safetensors; either may lie
 * in several files with an index (`ar.safetensors.index.json`).
 * @throws DetailFlowError `format`, `unsupported` (later version), `dtype`, `limit`, `io`; each names file and reason
 * @see https://detailflow.github.io/detailflow-ts/packages/checkpoint.html
 */
export async function readBundle(tree: FileTree): Promise<Bundle> {
  if (!(await tree.exists(bundleFiles.card))) {
    throw new DetailFlowError('io', 'there is no config.json; give the folder of a bundle', {
      file: tree.name,
    });
  }
  const card = parseBundleCard(
    await readJsonConfig(tree, bundleFiles.card),
    `${tree.name}/${bundleFiles.card}`,
  );
  const opened: WeightFiles[] = [];
  const close = async () => {
    await Promise.all(opened.map((files) => files.close()));
  };
  const open = async (path: string) => {
    const files = await openWeightFiles(tree, path);
    opened.push(files);
    return withRoundedMatrices(files.weights, files.metadata, files.file);
  };
  try {
    const tokenizer = await open(card.tokenizer.weights);
    const ar = card.ar && (await open(card.ar.weights));
    return { card, tokenizer, ar, close };
  } catch (error) {
    await close();
    throw error;
  }
}
