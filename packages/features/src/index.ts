export {
  type ClassifierConfig,
  classifier,
  classifierDistance,
  classifierLevels,
  classifierParameters,
  classifierStages,
} from './classifier';
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
