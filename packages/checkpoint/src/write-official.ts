import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { DetailFlowError, fileLimits, type Weights } from '@detailflow/core';
import { writeFileAtomically } from './atomic-file';
import { type ConfigObject, configObject } from './config-files';
import type { TorchContents } from './encode-pickle';
import { writeTorchCheckpoint } from './write-torch';

/** One half of a model in the layout of the official training scripts. */
export interface OfficialContents {
  /** config.json: the arguments of the model. */
  readonly config: ConfigObject;
  /** config.yaml: the arguments of the training run. */
  readonly args: ConfigObject;
  /** siglip2_vision.json: the head counts of a tokenizer's towers. */
  readonly vision?: ConfigObject;
  readonly weights: Weights;
  /** Which state dict it is: 'model' for tokenizers, 'ema' for AR models. */
  readonly key: 'model' | 'ema';
  readonly steps: number;
  /** What else of the training lies in the file: `optimizer`, `discriminator`, ... */
  readonly training?: TorchContents;
}

/**
 * Writes a folder as the official training scripts leave it: config.json, config.yaml and checkpoints/NNNNNNN.pt.
 * @throws DetailFlowError `io`, `dtype`, `limit` (4 GiB, and configurations beyond `fileLimits.config`, before anything is
 *   written)
 */
export async function writeOfficialFolder(path: string, contents: OfficialContents): Promise<void> {
  const { config, args, vision, weights, key, steps, training } = contents;
  const { jsonBytes, yamlBytes } = fileLimits.config;
  const { stringify } = await import('yaml');
  const json = (value: ConfigObject) => `${JSON.stringify(value, undefined, 2)}\n`;
  const texts = [
    checkedText(join(path, 'config.yaml'), args, stringify, yamlBytes),
    ...(vision ? [checkedText(join(path, 'siglip2_vision.json'), vision, json, jsonBytes)] : []),
    checkedText(join(path, 'config.json'), config, json, jsonBytes),
  ];
  await mkdir(join(path, 'checkpoints'), { recursive: true });
  const file = `${String(steps).padStart(7, '0')}.pt`;
  await writeTorchCheckpoint(join(path, 'checkpoints', file), { [key]: weights, ...training, steps });
  for (const { name, bytes } of texts) await writeFileAtomically(name, (write) => write(bytes));
}

/** @throws DetailFlowError `limit` for what would not be read again */
function checkedText(
  name: string,
  value: ConfigObject,
  format: (value: ConfigObject) => string,
  most: number,
): { name: string; bytes: Uint8Array } {
  configObject(value, name);
  const bytes = new TextEncoder().encode(format(value));
  if (bytes.length <= most) return { name, bytes };
  throw new DetailFlowError('limit', `would take ${bytes.length} bytes; at most ${most} are read`, {
    file: name,
  });
}
