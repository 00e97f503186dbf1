export {
  type BlurDiscriminatorConfig,
  blurDiscriminator,
  blurDiscriminatorParameters,
} from './blur-discriminator';
export {
  type ClassifierConfig,
  classifier,
  classifierDistance,
  classifierLevels,
  classifierParameters,
  classifierStages,
} from './classifier';
export {
  dinoDiscriminator,
  dinoDiscriminatorParameters,
  dinoFixedParameters,
  dinoSpectralWeights,
} from './dino-discriminator';
export {
  INCEPTION_SIZE,
  type InceptionFeatures,
  inception,
  inceptionParameters,
  inceptionWidths,
  resizeForInception,
  tensorflowBilinear,
} from './inception';
export { networkWeights, type Parameters } from './parameters';
export {
  type PatchDiscriminatorConfig,
  patchDiscriminator,
  patchDiscriminatorParameters,
} from './patch-discriminator';
export {
  SIGLIP,
  type SiglipConfig,
  siglipConfig,
  siglipFeatures,
  siglipWeights,
} from './siglip';
export { spectralNorm } from './spectral-norm';
export {
  type StyleDiscriminatorConfig,
  styleDiscriminator,
  styleDiscriminatorParameters,
  styleDiscriminatorSize,
} from './style-discriminator';
export {
  siglipDistance,
  siglipSize,
  tokenDistance,
  type VitFeatures,
  vitDistance,
  vitHeadParameters,
} from './token-distance';
export {
  type LpipsDropout,
  lpips,
  lpipsParameters,
  type VggMasks,
  vggFeatures,
  vggLevels,
  vggParameters,
  vggWidths,
} from './vgg';
export {
  VIT,
  type VitLevels,
  vitDepths,
  vitLevels,
  vitNetworkConfig,
  vitNetworkSize,
  vitNetworkWeights,
} from './vit-network';
