export { fileStamp } from './run/file-stamp';
export { folderStore } from './run/folder-store';
export { openExtractor, readClassifier } from './run/open-extractor';
export { openPerceptualDistance } from './run/open-perceptual-distance';
export { isSiglip, openSiglip, readSiglip } from './run/open-siglip';
export { readNetwork } from './run/read-network';
export { readVit } from './run/read-vit';
