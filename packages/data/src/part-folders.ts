const trains = ['train', 'training'];
const tests = ['val', 'valid', 'validation', 'test', 'testing'];
/** Names of parts only beside `train`: without it they may well be the name of anything. */
const besideTrain = ['dev', 'eval', 'evaluation'];

/** Whether a folder of this name may be a part of a data set. */
export const isPartName = (name: string): boolean => [...trains, ...tests].includes(name.toLowerCase());

/**
 * Which of some folders are the parts of a data set: `train`, and `val` or `test` (or `dev` or `eval`). Other ways to write them (`Train`,
 * `Training`, `Testing`) count where there are both, since a class may be called so.
 */
export function partFolders(names: readonly string[]): { readonly train?: string; readonly test?: string } {
  const written = (wanted: readonly string[]) =>
    wanted.find((one) => names.includes(one)) ??
    wanted.flatMap((one) => names.find((name) => name.toLowerCase() === one) ?? [])[0];
  const [train, test] = [written(trains), written([...tests, ...besideTrain])];
  return train === 'train' || (train !== undefined && test !== undefined) ? { train, test } : {};
}
