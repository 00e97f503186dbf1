export { type DecodeOptions, decodeImage } from './decode-image';
export { type ImageFolder, openImageFolder } from './image-folder';
export { type OpenDatasetOptions, type OpenedDataset, openDataset } from './open-dataset';
export { openIdx, type Split } from './open-idx';
export { readFileCapped } from './read-file';
export { type ImageFile, type ReadImageOptions, readImage, readImages } from './read-images';
