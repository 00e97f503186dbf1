/** Different rows of features, bit by bit, and how many there are again. */
export class RowSet {
  /** Rows that equal an earlier one. */
  readonly repeated: number;
  readonly #bits: Uint32Array;
  readonly #width: number;
  /** Where rows begin, by a hash of theirs. */
  readonly #places = new Map<number, number[]>();

  /** @param rows [n, width] */
  constructor(rows: Float32Array, width: number) {
    this.#bits = new Uint32Array(rows.buffer, rows.byteOffset, rows.length);
    this.#width = width;
    let repeated = 0;
    for (let at = 0; at < rows.length; at += width) {
      if (this.#has(this.#bits, at)) repeated++;
      else this.#places.set(hashOf(this.#bits, at, width), [...this.#at(this.#bits, at), at]);
    }
    this.repeated = repeated;
  }

  /** How many rows of another set, repeated or not, are in this one. */
  shared({ buffer, byteOffset, length }: Float32Array): number {
    const bits = new Uint32Array(buffer, byteOffset, length);
    let count = 0;
    for (let at = 0; at < length; at += this.#width) if (this.#has(bits, at)) count++;
    return count;
  }

  #at(bits: Uint32Array, at: number): readonly number[] {
    return this.#places.get(hashOf(bits, at, this.#width)) ?? [];
  }

  #has(bits: Uint32Array, at: number): boolean {
    return this.#at(bits, at).some((place) => {
      for (let i = 0; i < this.#width; i++) if (this.#bits[place + i] !== bits[at + i]) return false;
      return true;
    });
  }
}

/** FNV-1a, a value at a time. */
function hashOf(bits: Uint32Array, at: number, width: number): number {
  let hash = 0x811c9dc5;
  for (let i = at; i < at + width; i++) hash = Math.imul(hash ^ bits[i], 0x01000193);
  return hash;
}
