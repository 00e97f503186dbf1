import { basename, dirname } from 'node:path';
import { openFolder } from './node-files';
import { openWeightFiles, type WeightFiles } from './weight-files';

/**
 * As `openWeightFiles`, by the path of a local file.
 * @throws DetailFlowError as `openWeightFiles`
 */
export async function openWeightsPath(path: string): Promise<WeightFiles> {
  return openWeightFiles(await openFolder(dirname(path)), basename(path));
}
