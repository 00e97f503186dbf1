export { centerCrop } from './center-crop';
export { type CifarOptions, cifarDataset } from './cifar';
export { black, parseColour, white } from './colour';
export {
  type Colour,
  gridPicture,
  MAX_PIXELS,
  type SheetOptions,
  stripPicture,
  upscaleNearest,
} from './contact-sheet';
export { type ImageDataset, MemoryDataset } from './dataset';
export { EpochOrder } from './epoch-order';
export { type IdxArray, parseIdx } from './idx';
export { type NpyArray, readNpy, writeNpy } from './npy';
export type { NpyDType } from './npy-dtype';
export { type NpzArray, openNpz } from './npz';
export { type NpzParts, npzDataset, npzParts } from './npz-dataset';
export { NpzWriter, writeNpz } from './npz-writer';
export { cutImage, flipImage, imageValues, padImage, pictureFromBytes, type RgbImage } from './rgb-image';
export { shapeNames, shapesDataset } from './shapes';
export { skipUnreadable } from './skip-unreadable';
export {
  type SkippedImage,
  type SourceUse,
  type UnusedFiles,
  unreadableReason,
  useLines,
  withSkipped,
} from './source-use';
export { holdOut, subset } from './subset';
export { type CodeViews, centerView, codeViews, trainingView, type ViewOptions } from './views';
