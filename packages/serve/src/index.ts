export { createImageApp, type ImageApp, type Unfinished } from './image-app';
export type { ImageAppOptions } from './image-app-options';
export { type ImageServer, type ImageServerOptions, startImageServer } from './image-server';
export { parseKeys } from './keys';
export type { EncodedText, EncodeText, EncodeTextOptions, TextArray } from './prompt-encoder';
export type { LogEntry } from './request-log';
export type { ServedModel } from './served-model';
