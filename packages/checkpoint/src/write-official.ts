import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Weights } from '@detailflow/core';
import { stringify } from 'yaml';
import { writeFileAtomically } from './atomic-file';
import type { ConfigObject } from './config-files';
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
}

/**
 * Writes a folder as the official training scripts leave it: config.json, config.yaml and checkpoints/NNNNNNN.pt.
 * @throws DetailFlowError `io`, `limit` (4 GiB), `dtype`
 */
export async function writeOfficialFolder(path: string, contents: OfficialContents): Promise<void> {
  const { config, args, vision, weights, key, steps } = contents;
  await mkdir(join(path, 'checkpoints'), { recursive: true });
  const text = (name: string, value: string) =>
    writeFileAtomically(join(path, name), (write) => write(new TextEncoder().encode(value)));
  const file = `${String(steps).padStart(7, '0')}.pt`;
  await writeTorchCheckpoint(join(path, 'checkpoints', file), { [key]: weights, steps });
  await text('config.yaml', stringify(args));
  if (vision) await text('siglip2_vision.json', `${JSON.stringify(vision, undefined, 2)}\n`);
  await text('config.json', `${JSON.stringify(config, undefined, 2)}\n`);
}
