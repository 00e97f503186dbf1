export { centerCrop } from './center-crop';
export { cifarDataset } from './cifar';
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
export { npzDataset } from './npz-dataset';
export { NpzWriter, writeNpz } from './npz-writer';
export { cutImage, flipImage, imageValues, padImage, pictureFromBytes, type RgbImage } from './rgb-image';
export { shapeNames, shapesDataset } from './shapes';
export { type SkippedImage, skipUnreadable } from './skip-unreadable';
export { holdOut, subset } from './subset';
export { type CodeViews, centerView, codeViews, trainingView, type ViewOptions } from './views';
