/** Rows that are there more than once, bit by bit. */
interface EqualRows {
  /** Rows that equal an earlier one. */
  readonly again: number;
  /** Rows that equal one of the others. */
  readonly among: number;
}

/**
 * Counts rows of features that are the same as others: pictures that are there several times, or on both sides.
 * @param features [n, width]
 * @param others [m, width]
 */
export function equalRows(features: Float32Array, others: Float32Array, width: number): EqualRows {
  const foreign = new RowSet(others, width);
  const own = new RowSet(features, width);
  const counts = { again: 0, among: 0 };
  for (let at = 0; at < others.length; at += width) foreign.add(at);
  for (let at = 0; at < features.length; at += width) {
    if (!own.add(at)) counts.again++;
    if (foreign.has(features, at)) counts.among++;
  }
  return counts;
}

/** Different rows of one array. */
class RowSet {
  readonly #bits: Uint32Array;
  readonly #width: number;
  /** Where rows begin, by a hash of theirs. */
  readonly #places = new Map<number, number[]>();

  constructor(rows: Float32Array, width: number) {
    this.#bits = bitsOf(rows);
    this.#width = width;
  }

  /** Whether the row is a new one. */
  add(at: number): boolean {
    const hash = this.#hash(this.#bits, at);
    const known = this.#places.get(hash);
    if (known?.some((place) => this.#equals(place, this.#bits, at))) return false;
    if (known) known.push(at);
    else this.#places.set(hash, [at]);
    return true;
  }

  has(rows: Float32Array, at: number): boolean {
    const bits = bitsOf(rows);
    return this.#places.get(this.#hash(bits, at))?.some((place) => this.#equals(place, bits, at)) ?? false;
  }

  /** FNV-1a, a value at a time. */
  #hash(bits: Uint32Array, at: number): number {
    let hash = 0x811c9dc5;
    for (let i = at; i < at + this.#width; i++) hash = Math.imul(hash ^ bits[i], 0x01000193);
    return hash;
  }

  #equals(place: number, bits: Uint32Array, at: number): boolean {
    for (let i = 0; i < this.#width; i++) if (this.#bits[place + i] !== bits[at + i]) return false;
    return true;
  }
}

const bitsOf = ({ buffer, byteOffset, length }: Float32Array) => new Uint32Array(buffer, byteOffset, length);
