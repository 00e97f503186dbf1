import { type Backend, DetailFlowError, ofType, Tensor } from '@detailflow/core';
import { bytesOf } from '@detailflow/eval';
import {
  isSiglip,
  openExtractor,
  openSiglip,
  readClassifier,
  readNetwork,
  readSiglip,
  readVit,
} from '@detailflow/eval/node';
import { lpipsParameters, styleDiscriminatorSize, vggParameters } from '@detailflow/features';
import type { DiscriminatorConfig } from '../discriminator-settings';
import type { AlignmentTarget } from '../losses/alignment';
import { blurGan, type Discriminator, dinoGan, patchGan, styleGan } from '../losses/discriminator';
import type { LossNetworks } from '../losses/loss-networks';
import {
  classifierNetwork,
  lpipsNetwork,
  type PerceptualNetwork,
  type PerceptualRecipe,
  siglipNetwork,
  vitNetwork,
} from '../losses/perceptual';
import type { TokenizerRecipe } from '../tokenizer-recipe';

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
  /**
   * SigLIP2, whose features the decoder's patches must tell, or a perceptual loss compares: see `openSiglip` of `@detailflow/eval`.
   */
  readonly siglip?: string;
  /**
   * A vision transformer with timm's names, such as DINO's ViT-S/16, for the discriminator `dino` and the perceptual loss `vit`: see
   * `readVit` of `@detailflow/eval`.
   */
  readonly dino?: string;
}

/** The losses of a recipe that need networks. */
type LossRecipe = Pick<TokenizerRecipe, 'perceptual' | 'adversarial' | 'alignment' | 'repa'>;

const PERCEPTUAL = 'tokenizer.perceptual';

/**
 * Opens the networks that a recipe needs.
 * @returns them, and a function that lets go of them
 * @throws DetailFlowError `config` when a file is missing; `io`, `format` and `weights` as the files are
 */
export async function openLossNetworks(
  {
    tokenizer,
    imageSize,
  }: {
    readonly tokenizer: { readonly discriminator: DiscriminatorConfig; readonly recipe: LossRecipe };
    /** Side in pixels of full images. */
    readonly imageSize: number;
  },
  files: LossNetworkFiles,
  backend: Backend,
): Promise<{
  networks: LossNetworks;
  /** The files that were read. */
  used: LossNetworkFiles;
  /** Frees the networks. */
  close(): Promise<void>;
}> {
  const { perceptual, adversarial, alignment, repa } = tokenizer.recipe;
  const used: { -readonly [name in keyof LossNetworkFiles]: string } = {};
  const need = (name: keyof LossNetworkFiles, what: string, entry: string): string => {
    const file = files[name];
    if (file !== undefined) {
      used[name] = file;
      return file;
    }
    throw new DetailFlowError('config', `this loss needs ${what}: give its file as "${name}"`, { entry });
  };
  let vit: ReturnType<typeof readVit> | undefined;
  const vitFor = (entry: string) => {
    vit ??= readVit(need('dino', 'a vision transformer such as DINO', entry));
    return vit;
  };
  const openDiscriminator = async (config: DiscriminatorConfig): Promise<Discriminator> => {
    switch (config.kind) {
      case 'dino':
        return dinoGan(await vitFor('tokenizer.adversarial.discriminator'));
      case 'stylegan':
        return styleGan({ width: config.width, size: styleDiscriminatorSize(imageSize) });
      case 'maskbit':
        return blurGan(config);
      default:
        return patchGan(config);
    }
  };
  const openPerceptual = async ({ network, features }: PerceptualRecipe): Promise<PerceptualNetwork> => {
    if (network === 'vit') return vitNetwork(await vitFor(`${PERCEPTUAL}.network`), features);
    if (network === 'siglip') {
      const file = need('siglip', 'the vision tower of SigLIP2', `${PERCEPTUAL}.network`);
      return siglipNetwork(await readSiglip(file), features);
    }
    if (network === 'classifier') {
      const found = await readClassifier(need('classifier', 'a classifier', PERCEPTUAL));
      return classifierNetwork(found.config, found.weights);
    }
    const [vgg, heads] = await Promise.all([
      readNetwork(need('vgg', 'the weights of VGG16', PERCEPTUAL), vggParameters()),
      readNetwork(need('lpips', 'the heads of LPIPS', PERCEPTUAL), lpipsParameters()),
    ]);
    return lpipsNetwork(vgg, heads);
  };
  const network = perceptual && (await openPerceptual(perceptual));
  const discriminator = adversarial && (await openDiscriminator(tokenizer.discriminator));
  const siglip =
    repa && (await openSiglip(need('siglip', 'the vision tower of SigLIP2', 'tokenizer.repa'), backend));
  const aligned = alignment && need('alignment', 'a feature network', 'tokenizer.alignment');
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
      ...(discriminator && { discriminator }),
      ...(target && { alignment: target }),
      ...(siglip && { repa: siglip }),
    },
    used,
    close: async () => {
      await extractor?.dispose();
      await siglip?.dispose();
      if (tower !== siglip) await tower?.dispose();
    },
  };
}
