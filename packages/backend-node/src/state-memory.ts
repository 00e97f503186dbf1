import type { WireTensor } from './protocol';

type Data = WireTensor['data'];

const arrays = { float32: Float32Array, int32: Int32Array, bool: Uint8Array };

/** How long memory is kept for a state to come, in milliseconds: pictures follow each other, with time for decoding between them. */
const KEPT_FOR = 3000;

/**
 * Memory of states. A page that is touched for the first time costs more than all that is done with it in a run, so what the
 * last dropped state held is kept for a moment, for the next one of the same sizes.
 */
export class StateMemory {
  /** By their size in bytes. */
  readonly #spare = new Map<number, ArrayBuffer[]>();
  #timer: NodeJS.Timeout | undefined;

  /** Zeros. */
  take(type: WireTensor['type'], dims: readonly number[]): Data {
    const length = dims.reduce((a, b) => a * b, 1);
    const bytes = length * arrays[type].BYTES_PER_ELEMENT;
    const used = this.#spare.get(bytes)?.pop();
    if (used) return new arrays[type](used, 0, length).fill(0);
    return new arrays[type](new ArrayBuffer(bytes, { maxByteLength: bytes }), 0, length);
  }

  /** Takes back what nobody reads any more, in place of what was kept before. */
  giveBack(all: Iterable<Data>): void {
    this.clear();
    for (const { buffer } of all) {
      if (!(buffer instanceof ArrayBuffer && buffer.resizable) || buffer.byteLength === 0) continue;
      this.#spare.set(buffer.byteLength, [...(this.#spare.get(buffer.byteLength) ?? []), buffer]);
    }
    this.#timer = setTimeout(() => this.clear(), KEPT_FOR).unref();
  }

  /** Frees what is kept at once, instead of when the garbage collector sees how much it is. */
  clear(): void {
    clearTimeout(this.#timer);
    for (const buffer of [...this.#spare.values()].flat()) buffer.resize(0);
    this.#spare.clear();
  }
}
