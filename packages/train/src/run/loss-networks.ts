import { type Backend, DetailFlowError, ofType, Tensor } from '@detailflow/core';
import { bytesOf } from '@detailflow/eval';
import { isSiglip, openExtractor, openSiglip, readClassifier, readNetwork } from '@detailflow/eval/node';
import { lpipsParameters, vggParameters } from '@detailflow/features';
import type { AlignmentTarget } from '../losses/alignment';
import { patchGan } from '../losses/discriminator';
import type { LossNetworks } from '../losses/loss-networks';
import { classifierNetwork, lpipsNetwork, type PerceptualNetwork } from '../losses/perceptual';
import type { TokenizerRecipe } from '../tokenizer-recipe';
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
  /** SigLIP2, whose features the decoder's patches must tell: see `openSiglip` of `@detailflow/eval`. */
  readonly siglip?: string;
}

/** The losses of a recipe that need networks. */
type LossRecipe = Pick<TokenizerRecipe, 'perceptual' | 'adversarial' | 'alignment' | 'repa'>;

const entries: Partial<Record<keyof LossNetworkFiles, string>> = {
  alignment: 'tokenizer.alignment',
  siglip: 'tokenizer.repa',
};

/**
 * Opens the networks that a recipe needs.
 * @returns them, and a function that lets go of them
 * @throws DetailFlowError `config` when a file is missing; `io`, `format` and `weights` as the files are
 */
export async function openLossNetworks(
  {
    tokenizer,
  }: {
    readonly tokenizer: Pick<TrainingConfig['tokenizer'], 'discriminator'> & { readonly recipe: LossRecipe };
  },
  files: LossNetworkFiles,
  backend: Backend,
): Promise<{
  networks: LossNetworks;
  /** Frees the networks. */
  close(): Promise<void>;
}> {
  const { perceptual, adversarial, alignment, repa } = tokenizer.recipe;
  const need = (name: keyof LossNetworkFiles, what: string): string => {
    const file = files[name];
    if (file !== undefined) return file;
    throw new DetailFlowError('config', `this loss needs ${what}: give its file as "${name}"`, {
      entry: entries[name] ?? 'tokenizer.perceptual',
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
  const siglip = repa && (await openSiglip(need('siglip', 'the vision tower of SigLIP2'), backend));
  const aligned = alignment && need('alignment', 'a feature network');
  const tower =
    aligned !== undefined && (await isSiglip(aligned))
      ? aligned === files.siglip && siglip
        ? siglip
        : await openSiglip(aligned, backend)
      : undefined;
  const extractor = aligned !== undefined && !tower ? await openExtractor(aligned, backend) : undefined;
  const ofTower: AlignmentTarget | undefined = tower && {
    width: tower.width,
    features: (images) => tower.means(images),
  };
  const target: AlignmentTarget | undefined =
    ofTower ??
    (extractor && {
      width: extractor.width,
      features: async (images) => {
        const { pool } = await extractor.extract(bytesOf(ofType(images, 'float32')));
        return new Tensor('float32', pool, [images.dims[0], extractor.width]);
      },
    });
  return {
    networks: {
      ...(network && { perceptual: network }),
      ...(adversarial && { discriminator: patchGan(tokenizer.discriminator) }),
      ...(target && { alignment: target }),
      ...(siglip && { repa: siglip }),
    },
    close: async () => {
      await extractor?.dispose();
      await siglip?.dispose();
      if (tower !== siglip) await tower?.dispose();
    },
  };
}
