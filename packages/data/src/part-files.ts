/** Words of names, of which a file is of a part. What is first held out where there are several comes first. */
const words = {
  train: ['train', 'training'],
  validation: ['val', 'valid', 'validation', 'dev'],
  test: ['test', 'testing', 'eval', 'evaluation'],
} as const;

/** The part that a file is of. */
type Part = keyof typeof words;

/** Files of a data set by their parts. */
interface PartFiles {
  readonly train: readonly string[];
  readonly test: readonly string[];
  /** Of a further part, which is not used, and why. */
  readonly others: readonly { readonly name: string; readonly reason: string }[];
}

/**
 * Divides the files of a data set: one is of a part when a word of its name says so (`train-0000`, `imagenet1k-validation-00`, `val0000`, `test`),
 * wherever it stands; what no word says is for training. Where there are files for validation and for tests, the first are held out.
 * @param names without folders
 */
export function partFiles(names: readonly string[]): PartFiles {
  const parts = names.map((name) => ({ name, part: partOf(name) }));
  const of = (wanted: Part) => parts.filter(({ part }) => part === wanted).map(({ name }) => name);
  const [validation, test] = [of('validation'), of('test')];
  const others = validation.length > 0 ? test : [];
  return {
    train: of('train'),
    test: validation.length > 0 ? validation : test,
    others: others.map((name) => ({ name, reason: 'of another part than validation' })),
  };
}

function partOf(name: string): Part {
  const found = name.toLowerCase().match(/\p{L}+/gu) ?? [];
  const has = (part: Part) => found.some((word) => (words[part] as readonly string[]).includes(word));
  if (has('train')) return 'train';
  return has('validation') ? 'validation' : has('test') ? 'test' : 'train';
}
