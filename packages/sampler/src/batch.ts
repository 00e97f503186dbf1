export {
  type BatchPictureOptions,
  type BatchRun,
  createPictureBatch,
  type PictureBatch,
  type PictureBatchOptions,
} from './picture-batch';
