import type { WireTensor } from './protocol';

type Data = WireTensor['data'];

const arrays = { float32: Float32Array, int32: Int32Array, bool: Uint8Array };

/** How long memory is kept for a state to come, in milliseconds: pictures follow each other, with time for looking at them. */
const KEPT_FOR = 60_000;

/** More than so many bytes are given back at once. */
const MOST_BYTES = 2 ** 29;

/**
 * Memory of states. A page that is touched for the first time costs more than all that is done with it in a run, so what the
 * last dropped state held is kept for a moment, for the next one of the same sizes.
 */
export class StateMemory {
  /** By their size in bytes. */
  readonly #spare = new Map<number, ArrayBuffer[]>();
  /** Those that were in use before and may hold something. */
  readonly #used = new WeakSet<ArrayBufferLike>();
  #timer: NodeJS.Timeout | undefined;

  /** An array that is to be cleaned before it is read. */
  take(type: WireTensor['type'], dims: readonly number[]): Data {
    const length = dims.reduce((a, b) => a * b, 1);
    const bytes = length * arrays[type].BYTES_PER_ELEMENT;
    const buffer = this.#spare.get(bytes)?.pop() ?? new ArrayBuffer(bytes, { maxByteLength: bytes });
    return new arrays[type](buffer, 0, length);
  }

  /** Zeros in an array that was taken. */
  clean(array: Data): void {
    if (this.#used.has(array.buffer)) array.fill(0);
  }

  /** Takes back what nobody reads any more, in place of what was kept before. */
  giveBack(all: Iterable<Data>): void {
    this.clear();
    let bytes = 0;
    for (const { buffer } of all) {
      if (!(buffer instanceof ArrayBuffer && buffer.resizable) || buffer.byteLength === 0) continue;
      bytes += buffer.byteLength;
      this.#used.add(buffer);
      this.#spare.set(buffer.byteLength, [...(this.#spare.get(buffer.byteLength) ?? []), buffer]);
    }
    if (bytes > MOST_BYTES) this.clear();
    else this.#timer = setTimeout(() => this.clear(), KEPT_FOR).unref();
  }

  /** Frees what is kept at once, instead of when the garbage collector sees how much it is. */
  clear(): void {
    clearTimeout(this.#timer);
    for (const buffer of [...this.#spare.values()].flat()) buffer.resize(0);
    this.#spare.clear();
  }
}
