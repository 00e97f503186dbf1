import { readTorchCheckpoint, stateDict } from '@detailflow/checkpoint';
import { type OpenFile, openFile } from '@detailflow/checkpoint/node';
import {
  type Backend,
  DetailFlowError,
  openSafetensors,
  type ParameterSpec,
  pixelToByte,
  readFloat32,
  Tensor,
  type Weight,
  type Weights,
  weightFromArray,
} from '@detailflow/core';
import { openExtractor } from '@detailflow/eval/node';
import { lpipsParameters, vggParameters } from '@detailflow/features';
import type { AlignmentTarget } from '../losses/alignment';
import { patchGan } from '../losses/discriminator';
import { perceptualWeights } from '../losses/perceptual';
import type { LossNetworks } from '../tokenizer-trainer';
import type { TrainingConfig } from '../training-config';

/** Files of networks that losses need. */
export interface LossNetworkFiles {
  /** torchvision's VGG16, .pth or .safetensors. */
  readonly vgg?: string;
  /** The heads of LPIPS for VGG16, .pth or .safetensors. */
  readonly lpips?: string;
  /** A network whose features the first token must tell: see `openExtractor` of `@detailflow/eval`. */
  readonly alignment?: string;
}

/**
 * Opens the networks that a recipe needs.
 * @returns them, and a function that lets go of them
 * @throws DetailFlowError `config` when a file is missing; `io`, `format` and `weights` as the files are
 */
export async function openLossNetworks(
  { tokenizer }: TrainingConfig,
  files: LossNetworkFiles,
  backend: Backend,
): Promise<{ networks: LossNetworks; close(): Promise<void> }> {
  const { perceptual, adversarial, alignment } = tokenizer.recipe;
  const need = (name: keyof LossNetworkFiles, what: string): string => {
    const file = files[name];
    if (file !== undefined) return file;
    throw new DetailFlowError('config', `this loss needs ${what}: give its file as "${name}"`, {
      entry: name === 'alignment' ? 'tokenizer.alignment' : 'tokenizer.perceptual',
    });
  };
  const [vgg, heads] = perceptual
    ? await Promise.all([
        readNetwork(need('vgg', 'the weights of VGG16'), vggParameters()),
        readNetwork(need('lpips', 'the heads of LPIPS'), lpipsParameters()),
      ])
    : [];
  const extractor = alignment && (await openExtractor(need('alignment', 'a feature network'), backend));
  const target: AlignmentTarget | undefined = extractor && {
    width: extractor.width,
    features: async (images) => {
      const { pool } = await extractor.extract(asBytes(images));
      return new Tensor('float32', pool, [images.dims[0], extractor.width]);
    },
  };
  return {
    networks: {
      ...(vgg && heads && { perceptual: perceptualWeights(vgg, heads) }),
      ...(adversarial && { discriminator: patchGan(tokenizer.discriminator) }),
      ...(target && { alignment: target }),
    },
    close: async () => extractor?.dispose(),
  };
}

/** Weights of a file, held in memory; entries that are not asked for are left out. */
async function readNetwork(path: string, specs: readonly ParameterSpec[]): Promise<Weights> {
  const file = await openFile(path);
  try {
    const found = await readWeights(file, path);
    const weights = new Map<string, Weight>();
    for (const { name, shape } of specs) {
      const weight = found.get(name);
      if (!weight || weight.shape.join() !== shape.join()) {
        const is = weight ? `is [${weight.shape}]` : 'is missing';
        throw new DetailFlowError('weights', `${is}, must be [${shape}]`, { file: path, entry: name });
      }
      weights.set(name, weightFromArray(name, shape, await readFloat32(weight)));
    }
    return weights;
  } finally {
    await file.close();
  }
}

const readWeights = async (file: OpenFile, path: string): Promise<Weights> =>
  path.endsWith('.safetensors')
    ? (await openSafetensors(file)).weights
    : stateDict(await readTorchCheckpoint(file));

/** Images [n, 3, H, W] in [-1, 1] as bytes [n, H, W, 3]. */
function asBytes({ dims: [count, , height, width], data }: Tensor) {
  const plane = height * width;
  const bytes = new Uint8Array(count * plane * 3);
  for (let image = 0; image < count; image++) {
    for (let at = 0; at < plane; at++) {
      for (let channel = 0; channel < 3; channel++) {
        const value = (data as Float32Array)[(image * 3 + channel) * plane + at];
        bytes[(image * plane + at) * 3 + channel] = pixelToByte(value);
      }
    }
  }
  return { data: bytes, count, height, width };
}
