export { type Augmentation, augmentationLimits, augmentImage } from './augment';
export { BalancedOrder, type VisitOrder } from './balanced-order';
export { centerCrop } from './center-crop';
export { type CifarOptions, cifarDataset } from './cifar';
export { black, colourText, parseColour, white } from './colour';
export {
  type Colour,
  gridPicture,
  MAX_PIXELS,
  type SheetOptions,
  stripPicture,
  upscaleNearest,
  wholeEnlarged,
} from './contact-sheet';
export { type ImageDataset, MemoryDataset } from './dataset';
export { EpochOrder } from './epoch-order';
export { groupsOf, type HeldOutParts, type HoldOutRule, holdOut } from './hold-out';
export { type HoldOutRecord, holdOutRecord, parseHoldOutRecord } from './hold-out-record';
export { type IdxArray, parseIdx } from './idx';
export { type NpyArray, readNpy, writeNpy } from './npy';
export type { NpyDType } from './npy-dtype';
export { type NpzArray, openNpz } from './npz';
export { type NpzParts, npzDataset, npzParts } from './npz-dataset';
export { NpzWriter, writeNpz } from './npz-writer';
export { cutImage, flipImage, imageValues, padImage, pictureFromBytes, type RgbImage } from './rgb-image';
export { type EarlierModel, requireSameHeldOut } from './same-held-out';
export { shapeNames, shapesDataset } from './shapes';
export { skipUnreadable } from './skip-unreadable';
export { acrossClasses, evenlySpaced } from './some-images';
export {
  emptyClasses,
  emptyText,
  type SkippedImage,
  type SourceUse,
  type UnusedFiles,
  unreadableReason,
  useLines,
  withSkipped,
} from './source-use';
export { subset } from './subset';
export {
  type CenterViewOptions,
  type CodeViews,
  centerView,
  codeViewCount,
  codeViews,
  trainingView,
  type ViewOptions,
} from './views';
