import { DetailFlowError } from '@detailflow/core';

/** Folders of one name in two folders may be chance; so many are classes. */
const SHARED = 2;

/**
 * Refuses folders that are the parts of a data set and would be taken for its classes: one is called for training, and all hold no images
 * of their own but folders of the same names (`training_set/cat`, `training_set/dog` and `test_set/cat`, `test_set/dog`).
 * @param paths of the images, from the folders that would be classes, with slashes
 * @throws DetailFlowError `format`
 */
export function refusePartsAsClasses(paths: readonly string[], source: string): void {
  const inside = new Map<string, Set<string> | undefined>();
  for (const path of paths) {
    const [folder, next, ...rest] = path.split('/');
    const known = inside.has(folder) ? inside.get(folder) : new Set<string>();
    inside.set(folder, rest.length > 0 ? known?.add(next) : undefined);
  }
  const train = [...inside.keys()].find((name) => /(?<!\p{L})(?:train|training)(?!\p{L})/iu.test(name));
  const names = train === undefined ? undefined : inside.get(train);
  const others = [...inside].filter(([name]) => name !== train);
  const isAlike = (folders?: ReadonlySet<string>) =>
    folders !== undefined && [...folders].filter((name) => names?.has(name)).length >= SHARED;
  if (others.length === 0 || !others.every(([, folders]) => isAlike(folders))) return;
  throw new DetailFlowError(
    'format',
    `has folders of the same names in ${[...inside.keys()].slice(0, 5).join(' and in ')}: these look like parts, and would be taken for classes; call them train and val, or give one of them`,
    { file: source },
  );
}
