export {
  createDetailFlow,
  type DetailFlowProvider,
  type LocalSettings,
  type RemoteSettings,
} from './create-detailflow';
export type { DetailFlowImageOptions } from './draw-options';
export { LocalImageModel } from './local-image-model';
export { RemoteImageModel, type RemoteOptions } from './remote-image-model';
