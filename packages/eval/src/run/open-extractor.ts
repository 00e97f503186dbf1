import { readTorchCheckpoint, stateDict } from '@detailflow/checkpoint';
import { type OpenFile, openFile } from '@detailflow/checkpoint/node';
import { type Backend, DetailFlowError, openSafetensors, type Weights } from '@detailflow/core';
import { type ClassifierConfig, classifierParameters } from '@detailflow/features';
import { classifierExtractor, type Extractor, inceptionExtractor } from '../extractor';
import { readNetwork } from './read-network';

/**
 * Opens a feature network: `pt_inception-2015-12-05-*.pth`, or a classifier in a .safetensors file whose metadata hold
 * its `config`.
 * @throws DetailFlowError `io`, `format`, `weights`
 */
export async function openExtractor(path: string, backend: Backend): Promise<Extractor> {
  const file = await openFile(path);
  try {
    const extractor = await read(file, path, backend);
    return {
      ...extractor,
      dispose: async () => {
        await extractor.dispose();
        await file.close();
      },
    };
  } catch (error) {
    await file.close();
    throw error;
  }
}

/**
 * Reads a classifier, a .safetensors file whose metadata hold its `config`.
 * @throws DetailFlowError `io`, `format` when it is none, `weights`
 */
export async function readClassifier(path: string): Promise<{ config: ClassifierConfig; weights: Weights }> {
  const file = await openFile(path);
  try {
    const { metadata } = await openSafetensors(file);
    const config = parseConfig(metadata.get('config') ?? '', path);
    return { config, weights: await readNetwork(path, classifierParameters(config)) };
  } finally {
    await file.close();
  }
}

async function read(file: OpenFile, path: string, backend: Backend): Promise<Extractor> {
  if (!path.endsWith('.safetensors')) {
    const weights = stateDict(await readTorchCheckpoint(file));
    return inceptionExtractor({ weights, backend, file: path });
  }
  const { weights, metadata } = await openSafetensors(file);
  const config = metadata.get('config');
  if (config === undefined) return inceptionExtractor({ weights, backend, file: path });
  return classifierExtractor({ weights, config: parseConfig(config, path), backend, file: path });
}

function parseConfig(text: string, file: string): ClassifierConfig {
  const fail = () =>
    new DetailFlowError(
      'format',
      'does not describe a classifier: imageSize, classes, widths [3], features',
      {
        file,
        entry: 'config',
      },
    );
  let value: ClassifierConfig;
  try {
    value = JSON.parse(text);
  } catch {
    throw fail();
  }
  const { imageSize, classes, widths, features } = value ?? {};
  const isCount = (x: unknown) => Number.isInteger(x) && (x as number) >= 1 && (x as number) <= 4096;
  const isValid =
    [imageSize, classes, features].every(isCount) &&
    imageSize % 8 === 0 &&
    Array.isArray(widths) &&
    widths.length === 3 &&
    widths.every(isCount);
  if (!isValid) throw fail();
  return { imageSize, classes, widths, features };
}
