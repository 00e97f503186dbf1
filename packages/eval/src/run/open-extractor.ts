import { type Backend, DetailFlowError, type Weights } from '@detailflow/core';
import { type ClassifierConfig, classifierParameters } from '@detailflow/features';
import { classifierExtractor, type Extractor, inceptionExtractor } from '../extractor';
import { siglipExtractor } from '../siglip';
import { isSiglip, openSiglip } from './open-siglip';
import { openNetwork, readNetwork } from './read-network';

/**
 * Opens a feature network: `pt_inception-2015-12-05-*.pth`, a classifier in a .safetensors file (or several, with an
 * index) whose metadata hold its `config`, or SigLIP2 (see {@link openSiglip}).
 * @throws DetailFlowError `io`, `format`, `weights`
 */
export async function openExtractor(path: string, backend: Backend): Promise<Extractor> {
  if (await isSiglip(path)) return siglipExtractor(await openSiglip(path, backend));
  const files = await openNetwork(path);
  try {
    const { weights, metadata } = files;
    const config = metadata.get('config');
    const extractor =
      config === undefined
        ? await inceptionExtractor({ weights, backend, file: path })
        : await classifierExtractor({ weights, config: parseConfig(config, path), backend, file: path });
    return {
      ...extractor,
      ...classNamesOf(metadata.get('classNames'), extractor.classes),
      dispose: async () => {
        await extractor.dispose();
        await files.close();
      },
    };
  } catch (error) {
    await files.close();
    throw error;
  }
}

/**
 * Reads a classifier, a .safetensors file (or several, with an index) whose metadata hold its `config`.
 * @throws DetailFlowError `io`, `format` when it is none, `weights`
 */
export async function readClassifier(path: string): Promise<{ config: ClassifierConfig; weights: Weights }> {
  const network = await openNetwork(path);
  try {
    const config = parseConfig(network.metadata.get('config') ?? '', path);
    return { config, weights: await readNetwork(path, classifierParameters(config)) };
  } finally {
    await network.close();
  }
}

/** Names of all classes; none where they cannot be read: figures do not depend on them. */
function classNamesOf(text: string | undefined, classes: number): Pick<Extractor, 'classNames'> {
  try {
    const names: unknown = JSON.parse(text ?? '');
    const isSound =
      Array.isArray(names) && names.length === classes && names.every((name) => typeof name === 'string');
    return isSound ? { classNames: names } : {};
  } catch {
    return {};
  }
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
