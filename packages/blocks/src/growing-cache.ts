import { type State, type StateEntries, Tensor } from '@detailflow/core';

/** A cache grows by so many places at once: products and sums go by as many, and what is there has to move each time. */
const GROWTH = 32;

/**
 * Keeps a state of keys and values, axis 2 of which are places, no longer than runs have reached, where the device allows it.
 * @param most places at most, which it was made with
 * @returns makes room for so many places, of some entries alone if said; the feed that counts those that there are, i32 [N]
 */
export function growingCache(
  state: State,
  most: number,
): (places: number, entries?: StateEntries) => Promise<Tensor> {
  let length = most;
  return async (places, entries) => {
    const wanted = Math.min(most, Math.ceil(places / GROWTH) * GROWTH);
    if (wanted !== length && state.resize) {
      await state.resize(2, wanted, entries);
      length = wanted;
    }
    return new Tensor(
      'int32',
      Int32Array.from({ length }, (_, i) => i),
      [length],
    );
  };
}
