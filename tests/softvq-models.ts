import { readFileSync } from 'node:fs';
import { type FileTree, fileTree } from '@detailflow/checkpoint';
import { bytesSource, type Weight, weightFromArray } from '@detailflow/core';
import { encodeSafetensors } from '@detailflow/core/safetensors-writer';
import { numbers } from './numbers-by-formula';

/** A configuration that no golden value covers, and what tools/reference/softvq.py computes for it in PyTorch. */
export interface OddTokenizer {
  readonly kind: string;
  readonly wide: boolean;
  readonly args: Readonly<Record<string, number | string | boolean | null>>;
  readonly sizes: object;
  readonly shapes: Readonly<Record<string, readonly number[]>>;
  readonly latents: readonly number[];
  readonly pixels: readonly number[];
  readonly sample?: readonly number[];
  readonly codes?: readonly number[];
  readonly entropy?: number;
  readonly entropyRatio?: number;
}

export const oddTokenizers: Readonly<Record<string, OddTokenizer>> = JSON.parse(
  readFileSync(new URL('./fixtures/softvq.json', import.meta.url), 'utf8'),
);

const sizeOf = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);
export const numbersOf = (name: string, shape: readonly number[]) => numbers(name, sizeOf(shape));

/** As tools/reference/softvq.py fills a weight. */
function weightData(name: string, shape: readonly number[], isWide: boolean): Float32Array {
  const x = numbersOf(name, shape);
  if (name.endsWith('gamma') || (name.includes('norm') && name.endsWith('weight'))) {
    return x.map((v) => 1 + 0.3 * v);
  }
  if (isWide && name === 'quant_conv.bias') return x.map((v) => 40 * v);
  if (shape.length === 1) return x.map((v) => 0.1 * v);
  if (/(_tokens?|_embed|freqs)$/.test(name) || name.startsWith('quantize')) return x;
  return x.map((v) => v * Math.sqrt(6 / sizeOf(shape.slice(1))));
}

/** The weights of a configuration by formula. */
export const weightsOf = ({ shapes, wide }: OddTokenizer): Weight[] =>
  Object.entries(shapes).map(([name, shape]) => weightFromArray(name, shape, weightData(name, shape, wide)));

/** Bytes of a safetensors file. */
export async function safetensors(weights: readonly Weight[]): Promise<Uint8Array> {
  const { header, tensors } = encodeSafetensors(weights);
  return Buffer.concat([header, ...(await Promise.all(tensors.map(({ entry }) => entry.read())))]);
}

export const json = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value));

/** Files in memory. */
export const treeOf = (name: string, files: Readonly<Record<string, Uint8Array>>): FileTree =>
  fileTree(
    name,
    new Map(
      Object.entries(files).map(([path, bytes]) => [
        path,
        bytesSource(new Uint8Array(bytes), `${name}/${path}`),
      ]),
    ),
  );

/** A configuration as it is released. */
export async function releasedFiles(one: OddTokenizer): Promise<Record<string, Uint8Array>> {
  return {
    'config.json': json(one.args),
    'timm_vit.json': json(one.sizes),
    'model.safetensors': await safetensors(weightsOf(one)),
  };
}
