import type { SnappyStart } from './snappy';

/**
 * Where a value lies in a file: it is `size` bytes as they are, or, where `unpacked` is not 0, they unpack to so many, of which the value
 * is the `length` after `skip`.
 */
export interface Place {
  readonly offset: number;
  readonly size: number;
  readonly unpacked: number;
  readonly skip: number;
  readonly length: number;
}

/** What may be unpacked besides a value. */
const MOST_BESIDE = 1 << 18;
const NOTHING = -1;

/** The places of the values of a page, or that a row has no value, in 24 bytes each. */
export class Places {
  readonly #offsets: Float64Array;
  readonly #parts: Uint32Array;

  private constructor(places: readonly (Place | undefined)[]) {
    this.#offsets = Float64Array.from(places, (place) => place?.offset ?? NOTHING);
    this.#parts = new Uint32Array(4 * places.length);
    for (const [i, place] of places.entries())
      if (place) this.#parts.set([place.size, place.unpacked, place.skip, place.length], 4 * i);
  }

  /** @returns undefined when one of the values has no place */
  static of<Value>(
    values: readonly (Value | undefined)[],
    placeOf: (value: Value) => Place | undefined,
  ): Places | undefined {
    const places = values.map((value) => (value === undefined ? undefined : placeOf(value)));
    return places.every((place, i) => place || values[i] === undefined) ? new Places(places) : undefined;
  }

  at(index: number): Place | undefined {
    const offset = this.#offsets[index];
    if (offset === NOTHING) return undefined;
    const [size, unpacked, skip, length] = this.#parts.subarray(4 * index, 4 * index + 4);
    return { offset, size, unpacked, skip, length };
  }
}

/** The place of the `length` bytes from `begin` on of an unpacked page; undefined where much else would be unpacked with them. */
export function packedPlace(
  starts: readonly SnappyStart[],
  { begin, length, offset }: { readonly begin: number; readonly length: number; readonly offset: number },
): Place | undefined {
  const first = starts[lastUpTo(starts.length, (i) => starts[i].unpacked <= begin)];
  const end = begin + length;
  const last = starts[firstFrom(starts.length, (i) => starts[i].unpacked >= end)];
  const unpacked = last.unpacked - first.unpacked;
  if (unpacked > length + MOST_BESIDE) return undefined;
  const size = last.packed - first.packed;
  return { offset: offset + first.packed, size, unpacked, skip: begin - first.unpacked, length };
}

/** The last of so many numbers that a condition holds for, which holds for all before it; at least 0. */
export function lastUpTo(count: number, holds: (i: number) => boolean): number {
  let [low, high] = [0, count - 1];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (holds(middle)) low = middle;
    else high = middle - 1;
  }
  return low;
}

const firstFrom = (count: number, holds: (i: number) => boolean): number =>
  count - 1 - lastUpTo(count, (i) => holds(count - 1 - i));
