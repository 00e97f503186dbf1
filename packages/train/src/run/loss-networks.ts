import { type Backend, DetailFlowError, ofType, Tensor } from '@detailflow/core';
import { bytesOf } from '@detailflow/eval';
import { openExtractor, readClassifier, readNetwork } from '@detailflow/eval/node';
import { lpipsParameters, vggParameters } from '@detailflow/features';
import type { AlignmentTarget } from '../losses/alignment';
import { patchGan } from '../losses/discriminator';
import { classifierNetwork, lpipsNetwork, type PerceptualNetwork } from '../losses/perceptual';
import type { LossNetworks } from '../tokenizer-trainer';
import type { TrainingConfig } from '../training-config';

/** Files of networks that losses need. */
export interface LossNetworkFiles {
  /** torchvision's VGG16, .pth or .safetensors. */
  readonly vgg?: string;
  /** The heads of LPIPS for VGG16, .pth or .safetensors. */
  readonly lpips?: string;
  /** A classifier, as `trainClassifier` writes it. */
  readonly classifier?: string;
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
): Promise<{
  networks: LossNetworks;
  /** Frees the networks. */
  close(): Promise<void>;
}> {
  const { perceptual, adversarial, alignment } = tokenizer.recipe;
  const need = (name: keyof LossNetworkFiles, what: string): string => {
    const file = files[name];
    if (file !== undefined) return file;
    throw new DetailFlowError('config', `this loss needs ${what}: give its file as "${name}"`, {
      entry: name === 'alignment' ? 'tokenizer.alignment' : 'tokenizer.perceptual',
    });
  };
  const openPerceptual = async (): Promise<PerceptualNetwork> => {
    if (perceptual?.network === 'classifier') {
      const found = await readClassifier(need('classifier', 'a classifier'));
      return classifierNetwork(found.config, found.weights);
    }
    const [vgg, heads] = await Promise.all([
      readNetwork(need('vgg', 'the weights of VGG16'), vggParameters()),
      readNetwork(need('lpips', 'the heads of LPIPS'), lpipsParameters()),
    ]);
    return lpipsNetwork(vgg, heads);
  };
  const network = perceptual && (await openPerceptual());
  const extractor = alignment && (await openExtractor(need('alignment', 'a feature network'), backend));
  const target: AlignmentTarget | undefined = extractor && {
    width: extractor.width,
    features: async (images) => {
      const { pool } = await extractor.extract(bytesOf(ofType(images, 'float32')));
      return new Tensor('float32', pool, [images.dims[0], extractor.width]);
    },
  };
  return {
    networks: {
      ...(network && { perceptual: network }),
      ...(adversarial && { discriminator: patchGan(tokenizer.discriminator) }),
      ...(target && { alignment: target }),
    },
    close: async () => extractor?.dispose(),
  };
}
