/** Something that took work to make, and the memory it takes. */
export interface Made<Value> {
  readonly value: Value;
  readonly bytes: number;
  /** It need not be kept where it is larger than all the room there is. */
  readonly isSpare: boolean;
}

/** Keeps what was made, the latest used, within a number of bytes; makes one thing at a time, so that little more is ever held. */
export class KeptLatest<Key, Value> {
  readonly #entries = new Map<Key, { value: Promise<Value>; bytes: number; isSpare: boolean }>();
  #total = 0;
  #last: Promise<unknown> = Promise.resolve();

  constructor(private readonly most: number) {}

  has(key: Key): boolean {
    return this.#entries.has(key);
  }

  /** What is kept, or is made now; what could not be made is forgotten. */
  get(key: Key, make: () => Promise<Made<Value>>): Promise<Value> {
    const known = this.#entries.get(key);
    if (known) {
      this.#entries.delete(key);
      this.#entries.set(key, known); // the latest
      return known.value;
    }
    const made = this.#last.then(make);
    this.#last = made.catch(() => undefined);
    const entry = { value: made.then(({ value }) => value), bytes: 0, isSpare: false };
    this.#entries.set(key, entry);
    made.then(
      ({ bytes, isSpare }) => {
        Object.assign(entry, { bytes, isSpare });
        this.#total += bytes;
        this.#makeRoom();
      },
      () => this.#entries.delete(key),
    );
    return entry.value;
  }

  #makeRoom(): void {
    for (const [key, { bytes, isSpare }] of this.#entries) {
      if (this.#total <= this.most) return;
      if (bytes === 0 || (this.#entries.size === 1 && !isSpare)) continue; // is being made, or is all there is
      this.#entries.delete(key);
      this.#total -= bytes;
    }
  }
}
