const maxIntegerBytes = 1024;
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

  /** Skips the protocol that a pickle begins with; those of protocol 0 and 1 do without. */
  skipProtocol(): void {
    if (this.left === 0 || this.bytes[this.at] !== 0x80) return;
    this.at++;
    const protocol = this.byte();
    if (protocol > 5) throw this.fail(`it has protocol ${protocol}; 0 to 5 are read`);
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
    return this.decode(this.raw(length));
  }

  /** UTF-8 as a text, anything else as it is. */
  textOrBytes(bytes: Uint8Array): string | Uint8Array {
    try {
      return utf8.decode(bytes);
    } catch {
      return bytes.slice();
    }
  }

  /** A text up to the next newline, as numbers and the names of globals are written. */
  line(maxBytes: number): string {
    const end = this.bytes.indexOf(0x0a, this.at);
    if (end < 0 || end - this.at > maxBytes) throw this.fail('a name or number in it does not end');
    return this.decode(this.rawLine());
  }

  /** The bytes up to the next newline, which is skipped. */
  rawLine(): Uint8Array {
    const end = this.bytes.indexOf(0x0a, this.at);
    if (end < 0) throw this.fail('a line of it does not end');
    const line = this.bytes.subarray(this.at, end);
    this.at = end + 1;
    return line;
  }

  /** The error for contents that no pickle has. */
  damaged(reason: string): Error {
    return this.fail(reason);
  }

  private decode(raw: Uint8Array): string {
    try {
      return utf8.decode(raw);
    } catch (cause) {
      const text = withSurrogates(raw);
      if (text !== undefined) return text;
      throw this.fail('a string is not UTF-8', cause);
    }
  }

  private skip(length: number): number {
    const start = this.at;
    if (length > this.left) throw this.fail('it ends in the middle');
    this.at += length;
    return start;
  }
}

/** Python writes lone surrogates, as odd file names have them, as three bytes each. Undefined where other bytes are wrong. */
function withSurrogates(raw: Uint8Array): string | undefined {
  let text = '';
  let start = 0;
  try {
    for (let at = 0; at + 2 < raw.length; at++) {
      if (raw[at] !== 0xed || raw[at + 1] < 0xa0 || raw[at + 1] > 0xbf || (raw[at + 2] & 0xc0) !== 0x80)
        continue;
      const code = 0xd000 | ((raw[at + 1] & 0x3f) << 6) | (raw[at + 2] & 0x3f);
      text += utf8.decode(raw.subarray(start, at)) + String.fromCharCode(code);
      start = at + 3;
      at += 2;
    }
    return text + utf8.decode(raw.subarray(start));
  } catch {
    return undefined;
  }
}
