import type { WireTensor } from './protocol';

type Data = WireTensor['data'];

const arrays = { float32: Float32Array, int32: Int32Array, bool: Uint8Array };

/** How long memory is kept for a state to come, in milliseconds: pictures follow each other, with time for looking at them. */
const KEPT_FOR = 60_000;

/** So many bytes are kept at most; what was given back first goes first. */
const MOST_BYTES = 2 ** 29;

/**
 * Memory of states. A page that is touched for the first time costs more than all that is done with it in a run, so what
 * dropped states held is kept for a while, for the next ones of the same sizes.
 */
export class StateMemory {
  /** In the order in which they were given back. */
  readonly #spare = new Set<ArrayBuffer>();
  /** Those that were in use before and may hold something. */
  readonly #used = new WeakSet<ArrayBufferLike>();
  #timer: NodeJS.Timeout | undefined;

  /** An array that is to be cleaned before it is read. */
  take(type: WireTensor['type'], dims: readonly number[]): Data {
    const length = dims.reduce((a, b) => a * b, 1);
    const bytes = length * arrays[type].BYTES_PER_ELEMENT;
    let buffer = [...this.#spare].find(({ byteLength }) => byteLength === bytes);
    if (buffer) this.#spare.delete(buffer);
    else buffer = new ArrayBuffer(bytes, { maxByteLength: bytes });
    return new arrays[type](buffer, 0, length);
  }

  /** Zeros in an array that was taken. */
  clean(array: Data): void {
    if (this.#used.has(array.buffer)) array.fill(0);
  }

  /** Takes back what nobody reads any more. */
  giveBack(all: Iterable<Data>): void {
    for (const { buffer } of all) {
      if (!(buffer instanceof ArrayBuffer && buffer.resizable) || buffer.byteLength === 0) continue;
      this.#used.add(buffer);
      this.#spare.add(buffer);
    }
    let bytes = [...this.#spare].reduce((sum, { byteLength }) => sum + byteLength, 0);
    for (const buffer of this.#spare) {
      if (bytes <= MOST_BYTES) break;
      bytes -= buffer.byteLength;
      this.#free(buffer);
    }
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.clear(), KEPT_FOR).unref();
  }

  /** Frees what is kept. */
  clear(): void {
    clearTimeout(this.#timer);
    for (const buffer of this.#spare) this.#free(buffer);
  }

  /** At once, instead of when the garbage collector sees how much it is. */
  #free(buffer: ArrayBuffer): void {
    this.#spare.delete(buffer);
    buffer.resize(0);
  }
}
