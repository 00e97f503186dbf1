import { realpath } from 'node:fs/promises';
import path from 'node:path';
import { isPartName } from './part-folders';
import { UnusedCounter } from './source-use';
import { type ListedFolder, listFolder, newWalk } from './walk-images';

/**
 * The folder that has the classes or parts: past folders that hold no images and only one folder, which has no images of its own
 * either, as archives unpack. A part (`train`) and a folder of images, which is a class, stay what they are.
 * @param unused told of what lies beside the folders that are passed
 * @throws DetailFlowError as `listFolder`
 */
export async function innerFolder(source: string, unused: UnusedCounter): Promise<string> {
  let beside = new UnusedCounter();
  const walk = newWalk(source, beside);
  const seen = new Set<string>();
  let here: ListedFolder = await listFolder(source, await realpath(source), walk);
  for (;;) {
    const [only, ...others] = here.folders;
    if (here.images.length > 0 || only === undefined || others.length > 0) return here.path;
    if (isPartName(only.name) || seen.has(only.real) || only.real === here.real) return here.path;
    seen.add(here.real);
    const own = new UnusedCounter();
    const inside = await listFolder(path.join(here.path, only.name), only.real, { ...walk, unused: own });
    if (inside.images.length > 0 || inside.folders.length === 0) return here.path;
    unused.addAll(beside.list());
    beside = own;
    here = inside;
  }
}
