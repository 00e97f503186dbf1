import { pictureFromPixels, type Tensor } from '@detailflow/core';
import sharp from 'sharp';

export type OutputFormat = 'png' | 'jpeg' | 'webp';

/** The first picture of float32 [B, 3, H, W] as a file. `quality`: 0 to 100 for jpeg and webp. */
export async function encodePicture(
  pixels: Tensor<'float32'>,
  { format, quality }: { readonly format: OutputFormat; readonly quality: number },
): Promise<Uint8Array> {
  const picture = pictureFromPixels(pixels);
  if (format === 'png') return picture.toPng();
  const { data, width, height } = picture;
  const image = sharp(data, { raw: { width, height, channels: 4 } }).removeAlpha();
  const kept = Math.max(1, quality); // neither encoder knows 0
  return format === 'jpeg'
    ? image.jpeg({ quality: kept }).toBuffer()
    : image.webp({ quality: kept }).toBuffer();
}
