const maxIntegerBytes = 1024;
const maxNameBytes = 1000;
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Reads a pickle's bytes from front to back and never past their end. */
export class PickleBytes {
  /** Position of the next byte. */
  at = 0;
  private readonly view: DataView;

  constructor(
    private readonly bytes: Uint8Array,
    private readonly fail: (reason: string, cause?: unknown) => Error,
  ) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get left(): number {
    return this.bytes.length - this.at;
  }

  byte(): number {
    return this.bytes[this.skip(1)];
  }

  uint16(): number {
    return this.view.getUint16(this.skip(2), true);
  }

  int32(): number {
    return this.view.getInt32(this.skip(4), true);
  }

  uint32(): number {
    return this.view.getUint32(this.skip(4), true);
  }

  uint64(): number {
    return Number(this.view.getBigUint64(this.skip(8), true));
  }

  /** Big-endian, unlike everything else in a pickle. */
  float64(): number {
    return this.view.getFloat64(this.skip(8));
  }

  /** A two's complement integer: a number where it is exact, else a bigint. */
  integer(length: number): number | bigint {
    if (length > maxIntegerBytes) throw this.fail(`an integer has more than ${maxIntegerBytes} bytes`);
    const raw = this.raw(length);
    const words = new DataView(raw.buffer, raw.byteOffset, length);
    const whole = length - (length % 8); // eight bytes at once: large numbers would take quadratic time byte by byte
    let value = 0n;
    for (let i = length - 1; i >= whole; i--) value = value * 256n + BigInt(raw[i]);
    for (let at = whole - 8; at >= 0; at -= 8) value = (value << 64n) + words.getBigUint64(at, true);
    if (length > 0 && raw[length - 1] >= 128) value -= 1n << BigInt(8 * length);
    return Number.isSafeInteger(Number(value)) ? Number(value) : value;
  }

  /** A view of the next bytes, not a copy. */
  raw(length: number): Uint8Array {
    const start = this.skip(length);
    return this.bytes.subarray(start, start + length);
  }

  text(length: number): string {
    const raw = this.raw(length);
    try {
      return utf8.decode(raw);
    } catch (cause) {
      throw this.fail('a string is not UTF-8', cause);
    }
  }

  /** A text up to the next newline, as the names of globals are written. */
  line(): string {
    const end = this.bytes.indexOf(0x0a, this.at);
    if (end < 0 || end - this.at > maxNameBytes) throw this.fail('the name of a global does not end');
    const line = this.text(end - this.at);
    this.at = end + 1;
    return line;
  }

  private skip(length: number): number {
    const start = this.at;
    if (length > this.left) throw this.fail('it ends in the middle');
    this.at += length;
    return start;
  }
}
