export { type Colour, gridPicture, type SheetOptions, stripPicture, upscaleNearest } from './contact-sheet';
export { type ConvertOptions, convert } from './convert';
export { centerCrop, type ImageBatch, type RgbImage, readImage, readImages } from './image-io';
export { type LoadOptions, load, Model, type Reconstruction } from './load';
export { type ModelPart, type ModelSource, type OpenedModel, openModel } from './model-source';
export { type NpyArray, type NpyDType, readNpy, writeNpy } from './npy';
export { psnr } from './psnr';
