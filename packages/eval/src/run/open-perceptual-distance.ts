import type { Backend } from '@detailflow/core';
import { lpipsParameters, vggParameters } from '@detailflow/features';
import { type PerceptualDistance, perceptualDistance } from '../perceptual-distance';
import { readNetwork } from './read-network';

/**
 * LPIPS by the files of VGG16 (torchvision's) and of its heads (LPIPS's `vgg.pth`), .pth or .safetensors.
 * @throws DetailFlowError `io`, `format`, `weights`
 */
export async function openPerceptualDistance(
  files: { readonly vgg: string; readonly heads: string },
  backend: Backend,
): Promise<PerceptualDistance> {
  const [vgg, heads] = await Promise.all([
    readNetwork(files.vgg, vggParameters()),
    readNetwork(files.heads, lpipsParameters()),
  ]);
  return perceptualDistance({ vgg, heads, backend });
}
