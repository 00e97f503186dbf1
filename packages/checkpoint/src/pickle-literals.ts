import type { PickleBytes } from './pickle-bytes';

export type PickleLiteral = null | boolean | number | bigint | string | Uint8Array;

/** Longest number that protocol 0 writes as text. */
const maxNumberBytes = 1000;

/**
 * Reads the value of an opcode that stands for itself: None, booleans, numbers, texts and bytes of all protocols. Undefined
 * for any other opcode. Texts of Python 2 that are not UTF-8 come as bytes.
 */
export function readLiteral(opcode: number, input: PickleBytes): PickleLiteral | undefined {
  switch (opcode) {
    case 0x4e: // NONE
      return null;
    case 0x88: // NEWTRUE
      return true;
    case 0x89: // NEWFALSE
      return false;
    case 0x4a: // BININT
      return input.int32();
    case 0x4b: // BININT1
      return input.byte();
    case 0x4d: // BININT2
      return input.uint16();
    case 0x8a: // LONG1
      return input.integer(input.byte());
    case 0x8b: // LONG4
      return input.integer(input.uint32());
    case 0x49: {
      // INT
      const text = input.line(maxNumberBytes);
      return text === '00' ? false : text === '01' ? true : decimal(text, input);
    }
    case 0x4c: // LONG
      return decimal(input.line(maxNumberBytes).replace(/L$/, ''), input);
    case 0x47: // BINFLOAT
      return input.float64();
    case 0x46: // FLOAT
      return decimalFloat(input.line(maxNumberBytes), input);
    case 0x58: // BINUNICODE
      return input.text(input.uint32());
    case 0x8c: // SHORT_BINUNICODE
      return input.text(input.byte());
    case 0x8d: // BINUNICODE8
      return input.text(input.uint64());
    case 0x56: // UNICODE
      return unescapeUnicode(input.rawLine());
    case 0x54: // BINSTRING
      return input.textOrBytes(input.raw(input.uint32()));
    case 0x55: // SHORT_BINSTRING
      return input.textOrBytes(input.raw(input.byte()));
    case 0x53: // STRING
      return input.textOrBytes(unquote(input.rawLine(), input));
    case 0x42: // BINBYTES
      return input.raw(input.uint32()).slice();
    case 0x43: // SHORT_BINBYTES
      return input.raw(input.byte()).slice();
    case 0x8e: // BINBYTES8
    case 0x96: // BYTEARRAY8
      return input.raw(input.uint64()).slice();
    default:
      return undefined;
  }
}

function decimal(text: string, input: PickleBytes): number | bigint {
  if (!/^[+-]?\d+$/.test(text)) throw input.damaged('an integer is written in a strange way');
  const value = Number(text);
  return Number.isSafeInteger(value) ? value : BigInt(text.replace(/^\+/, ''));
}

function decimalFloat(text: string, input: PickleBytes): number {
  const special: Readonly<Record<string, number>> = {
    nan: Number.NaN,
    inf: Number.POSITIVE_INFINITY,
    '-inf': Number.NEGATIVE_INFINITY,
  };
  if (Object.hasOwn(special, text)) return special[text];
  if (!/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text)) {
    throw input.damaged('a number is written in a strange way');
  }
  return Number(text);
}

const latin1 = (bytes: Uint8Array): string => {
  let text = '';
  for (let at = 0; at < bytes.length; at += 8192)
    text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return text;
};

/** Python's raw-unicode-escape: Latin-1 with \uXXXX and \UXXXXXXXX. */
const unescapeUnicode = (bytes: Uint8Array): string =>
  latin1(bytes).replace(/\\(?:u([0-9a-fA-F]{4})|U(00[01][0-9a-fA-F]{5}))/g, (whole, short, long) => {
    const code = Number.parseInt(short ?? long, 16);
    return code <= 0x10ffff ? String.fromCodePoint(code) : whole;
  });

const escapes: Readonly<Record<string, number>> = {
  '\\': 92,
  "'": 39,
  '"': 34,
  a: 7,
  b: 8,
  f: 12,
  n: 10,
  r: 13,
  t: 9,
  v: 11,
};

/** The bytes of a string literal in quotes, as Python 2 prints it. */
function unquote(line: Uint8Array, input: PickleBytes): Uint8Array {
  const quoted = latin1(line).trimEnd();
  const quote = quoted[0];
  if (quoted.length < 2 || !(quote === "'" || quote === '"') || !quoted.endsWith(quote)) {
    throw input.damaged('a string is not in quotes');
  }
  const plain = quoted
    .slice(1, -1)
    .replace(/\\(?:x([0-9a-fA-F]{2})|([0-7]{1,3})|([\s\S]))/g, (whole, hex, octal, other) => {
      if (hex !== undefined) return String.fromCharCode(Number.parseInt(hex, 16));
      if (octal !== undefined) return String.fromCharCode(Number.parseInt(octal, 8) & 255);
      return Object.hasOwn(escapes, other) ? String.fromCharCode(escapes[other]) : whole;
    });
  return Uint8Array.from(plain, (char) => char.charCodeAt(0));
}
