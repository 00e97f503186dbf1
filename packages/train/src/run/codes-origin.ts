import { createHash } from 'node:crypto';
import { isOfDecoder } from '@detailflow/tokenizer';
import type { RunConfig } from '../family-config';
import type { Arrays } from '../initialise';
import type { TrainingConfig } from '../training-config';

/**
 * Says what codes are of and made by: a digest of the tokenizer's parameters without the decoder's, which codes do not
 * depend on and which may be trained further, of the images, and of whatever else they depend on.
 * @param options.images digest of the images
 * @param options.settings anything that JSON can say
 */
export function codesOrigin(options: {
  readonly parameters: Arrays;
  readonly images: string;
  readonly settings: unknown;
}): string {
  const hash = createHash('sha256');
  for (const [name, { buffer, byteOffset, byteLength }] of options.parameters) {
    if (isOfDecoder(name)) continue;
    hash.update(`${name} ${byteLength}\n`).update(new Uint8Array(buffer, byteOffset, byteLength));
  }
  hash.update(JSON.stringify([options.images, options.settings]));
  return hash.digest('hex').slice(0, 32);
}

/** The settings that codes depend on. */
export function codesSettings({
  seed,
  data,
  tokenizer,
  tokenModel,
}: Pick<RunConfig, 'seed' | 'data'> & {
  readonly tokenizer: { readonly model: object };
  readonly tokenModel: Pick<TrainingConfig['tokenModel'], 'imageSize'> | object;
}) {
  const { fit, background, views, zoom, flip, augment, cropRanges } = data;
  const imageSize = 'imageSize' in tokenModel ? tokenModel.imageSize : undefined;
  const varied = views === 'varied' && { zoom, flip, augment };
  return {
    ...{ seed, fit, background, views, varied, model: tokenizer.model },
    ...(cropRanges && { cropRanges }),
    ...(imageSize && { imageSize }),
  };
}
