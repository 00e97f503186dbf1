/** Files of a source that are not used, for one reason. */
export interface UnusedFiles {
  readonly reason: string;
  readonly count: number;
  /** The first few, by their path in the source. */
  readonly examples: readonly string[];
}

/** What a source of images gives, and what lies in it and is not used. */
export interface SourceUse {
  readonly images: number;
  readonly classes: number;
  /** Classes without an image (in training: without one to learn from), where there are any. */
  readonly emptyClasses?: readonly string[];
  readonly unused: readonly UnusedFiles[];
}

/** An image that could not be read, and why. */
export interface SkippedImage {
  readonly index: number;
  /** Its path in the data set, where it has one. */
  readonly file?: string;
  readonly reason: string;
}

const MOST_EXAMPLES = 5;
/** Reasons that are told apart; further ones are counted together. */
const MOST_REASONS = 50;

/** Counts what is not used, by reason. */
export class UnusedCounter {
  readonly #found = new Map<string, { count: number; examples: string[] }>();

  add(reason: string, file: string): void {
    const isNew = !this.#found.has(reason);
    const key = isNew && this.#found.size >= MOST_REASONS ? 'other reasons' : reason;
    const entry = this.#found.get(key) ?? { count: 0, examples: [] };
    this.#found.set(key, entry);
    entry.count++;
    if (entry.examples.length < MOST_EXAMPLES) entry.examples.push(file);
  }

  addAll(others: readonly UnusedFiles[], within = ''): void {
    for (const { reason, count, examples } of others) {
      const entry = this.#found.get(reason) ?? { count: 0, examples: [] };
      this.#found.set(reason, entry);
      entry.count += count;
      const room = MOST_EXAMPLES - entry.examples.length;
      entry.examples.push(...examples.slice(0, room).map((name) => `${within}${name}`));
    }
  }

  get count(): number {
    let sum = 0;
    for (const { count } of this.#found.values()) sum += count;
    return sum;
  }

  list(): UnusedFiles[] {
    return [...this.#found].map(([reason, { count, examples }]) => ({ reason, count, examples }));
  }
}

/** The classes of some images that none of them is of. */
export function emptyClasses({
  classNames,
  labels,
}: {
  readonly classNames: readonly string[];
  readonly labels: Int32Array;
}): Pick<SourceUse, 'emptyClasses'> {
  const present = new Set(labels);
  const empty = classNames.filter((_, label) => !present.has(label));
  return empty.length > 0 ? { emptyClasses: empty } : {};
}

/** What is said of classes without images: how many, and the first five; nothing where there are none. */
export function emptyText({ emptyClasses: empty = [] }: Pick<SourceUse, 'emptyClasses'>): string {
  const shown = empty.slice(0, MOST_EXAMPLES).join(', ') + (empty.length > MOST_EXAMPLES ? ', ...' : '');
  return empty.length === 0 ? '' : ` (${empty.length} without an image: ${shown})`;
}

/** What a source gives, in a line for it and one for every reason. */
export function useLines({ images, classes, unused, ...use }: SourceUse): string[] {
  const total = unused.reduce((sum, { count }) => sum + count, 0);
  const counted = (count: number, word: string, plural = `${word}s`) =>
    `${count} ${count === 1 ? word : plural}`;
  const rest = total === 0 ? '' : `; ${counted(total, 'file')} not used:`;
  return [
    `${counted(images, 'image')} of ${counted(classes, 'class', 'classes')}${emptyText(use)}${rest}`,
    ...unused.map(({ reason, count, examples }) => {
      const more = count > examples.length ? ', ...' : '';
      return `  ${count} x ${reason}: ${examples.join(', ')}${more}`;
    }),
  ];
}

/** What is said of an image that could not be read, without its file. */
export function unreadableReason(error: { readonly message: string; readonly file?: string }): string {
  const { message, file } = error;
  const text =
    file !== undefined && message.startsWith(`${file}: `) ? message.slice(file.length + 2) : message;
  return `unreadable: ${text}`;
}

/** The same with images that turned out to be unreadable: they count as unused. */
export function withSkipped(use: SourceUse, skipped: readonly SkippedImage[]): SourceUse {
  const unused = new UnusedCounter();
  unused.addAll(use.unused);
  for (const { reason, file, index } of skipped) unused.add(reason, file ?? `image ${index}`);
  return { ...use, images: use.images - skipped.length, unused: unused.list() };
}
