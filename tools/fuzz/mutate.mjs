// Mutations of bytes, of JSON values and of YAML texts.

/** Numbers at which sizes, offsets and counts go wrong. */
export const edges = [
  0,
  1,
  2,
  3,
  7,
  8,
  63,
  64,
  65,
  127,
  128,
  255,
  256,
  1000,
  32767,
  32768,
  65535,
  65536,
  2 ** 20,
  2 ** 24,
  2 ** 31 - 1,
  2 ** 31,
  2 ** 32 - 1,
  2 ** 32,
  2 ** 40,
  2 ** 53 - 1,
  2 ** 53,
  2 ** 63,
  2 ** 64 - 1,
];

const junk = [
  'PK\x03\x04',
  'PK\x01\x02',
  'PK\x05\x06',
  'PK\x06\x06',
  'PK\x06\x07',
  '\x80\x02',
  '\x80\x05',
  '{}',
  '__proto__',
  '\0',
];

/** 1 to 6 mutations of a byte string. */
export function mutateBytes(bytes, random) {
  let out = Buffer.from(bytes);
  for (let n = 1 + random.below(random.chance(0.3) ? 6 : 2); n > 0; n--) out = mutateOnce(out, random);
  return out;
}

function mutateOnce(bytes, random) {
  const at = random.below(bytes.length);
  const span = 1 + random.below(random.chance(0.8) ? 8 : 64);
  switch (random.below(9)) {
    case 0:
      if (bytes.length > 0) bytes[at] ^= 1 << random.below(8);
      return bytes;
    case 1:
      if (bytes.length > 0) bytes[at] = random.pick([0, 1, 0x7f, 0x80, 0xff, random.below(256)]);
      return bytes;
    case 2:
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + span)]);
    case 3: {
      const more = Buffer.from(Array.from({ length: span }, () => random.below(256)));
      return Buffer.concat([bytes.subarray(0, at), more, bytes.subarray(at)]);
    }
    case 4: {
      const from = random.below(bytes.length);
      return Buffer.concat([
        bytes.subarray(0, at),
        bytes.subarray(from, from + 4 * span),
        bytes.subarray(at),
      ]);
    }
    case 5: {
      const from = random.below(bytes.length);
      bytes.copy(bytes, at, from, Math.min(from + span, bytes.length));
      return bytes;
    }
    case 6:
      return bytes.subarray(0, at);
    case 7:
      return Buffer.concat([
        bytes.subarray(0, at),
        Buffer.from(random.pick(junk), 'latin1'),
        bytes.subarray(at),
      ]);
    default:
      return writeNumber(bytes, at, random);
  }
}

function writeNumber(bytes, near, random) {
  const width = random.pick([1, 2, 4, 8]);
  const at = random.chance(0.5) ? near - (near % width) : near;
  if (at + width > bytes.length) return bytes;
  const scratch = Buffer.alloc(8);
  if (random.chance(0.1))
    scratch.writeDoubleBE(random.pick([Number.NaN, Number.POSITIVE_INFINITY, -0, 1e308, 0.5]));
  else {
    const value = BigInt(random.pick(edges)) - BigInt(random.below(3)) + BigInt(random.below(3));
    scratch.writeBigUInt64LE(BigInt.asUintN(64, random.chance(0.2) ? -value : value));
  }
  const part = scratch.subarray(0, width);
  bytes.set(random.chance(0.8) ? part : Buffer.from(part).reverse(), at);
  return bytes;
}

/** JSON text that stands for itself, where JSON.stringify would not write it. */
class Raw {
  constructor(text) {
    this.text = text;
  }
}

/** An object as a list of keys and values, which may repeat. */
class Fields {
  constructor(entries) {
    this.entries = entries;
  }
}

export const toFields = (value) => {
  if (Array.isArray(value)) return value.map(toFields);
  if (typeof value !== 'object' || value === null) return value;
  return new Fields(Object.entries(value).map(([key, part]) => [key, toFields(part)]));
};

export function writeJson(value) {
  if (value instanceof Raw) return value.text;
  if (value instanceof Fields) {
    return `{${value.entries.map(([key, part]) => `${JSON.stringify(key)}:${writeJson(part)}`).join(',')}}`;
  }
  if (Array.isArray(value)) return `[${value.map(writeJson).join(',')}]`;
  return JSON.stringify(value) ?? 'null';
}

const names = [
  '__proto__',
  'constructor',
  'prototype',
  'toString',
  '__metadata__',
  '',
  'a'.repeat(2000),
  '\u0000',
  'ä€😀',
  '../x',
  'module.',
  '1',
];

/** A value that does not belong there. */
function strange(random) {
  switch (random.below(12)) {
    case 0:
      return new Raw(String(random.pick(edges)));
    case 1:
      return new Raw(`-${random.pick(edges)}`);
    case 2:
      return new Raw(
        random.pick([
          '1e308',
          '-1e308',
          '1e309',
          '1.5',
          '0.1',
          '-0',
          '1e-320',
          '9007199254740993',
          '1E5',
          '00',
          'NaN',
          'Infinity',
        ]),
      );
    case 3:
      return random.pick(names);
    case 4:
      return String(random.pick(edges));
    case 5:
      return null;
    case 6:
      return random.chance(0.5);
    case 7:
      return [];
    case 8:
      return new Fields([]);
    case 9: {
      const depth = random.pick([3, 10, 40, 3000]);
      return new Raw(
        random.chance(0.5)
          ? '['.repeat(depth) + ']'.repeat(depth)
          : `${'{"a":'.repeat(depth)}1${'}'.repeat(depth)}`,
      );
    }
    case 10:
      return new Fields([[random.pick(names), strange(random)]]);
    default:
      return Array.from({ length: random.pick([1, 3, 70, 300]) }, () => random.pick(edges));
  }
}

/** 1 to 3 changes somewhere inside a value made by {@link toFields}. */
export function mutateJson(value, random) {
  let out = value;
  for (let n = 1 + random.below(3); n > 0; n--) out = mutateValue(out, random);
  return out;
}

function mutateValue(value, random) {
  const inside =
    (value instanceof Fields && value.entries.length > 0) || (Array.isArray(value) && value.length > 0);
  if (typeof value === 'number' && random.chance(0.6))
    return new Raw(String(random.pick([...edges, value + 1, 2 * value])));
  if (!inside || random.chance(0.08)) return strange(random);
  if (Array.isArray(value)) {
    const list = [...value];
    const at = random.below(list.length);
    const choice = random.below(6);
    if (choice === 0) list.splice(at, 1);
    else if (choice === 1) list.splice(at, 0, list[random.below(list.length)]);
    else if (choice === 2) list.reverse();
    else list[at] = mutateValue(list[at], random);
    return list;
  }
  const entries = value.entries.map((entry) => [...entry]);
  const at = random.below(entries.length);
  switch (random.below(9)) {
    case 0:
      entries.splice(at, 1);
      break;
    case 1:
      entries.push([entries[at][0], random.chance(0.5) ? entries[at][1] : strange(random)]);
      break;
    case 2:
      entries[at][0] = random.pick(names);
      break;
    case 3:
      entries.push([random.pick(names), strange(random)]);
      break;
    case 4: {
      const other = random.below(entries.length);
      [entries[at][1], entries[other][1]] = [entries[other][1], entries[at][1]];
      break;
    }
    default:
      entries[at][1] = mutateValue(entries[at][1], random);
  }
  return new Fields(entries);
}

const yamlLines = [
  'a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\nb: &b [*a, *a, *a, *a, *a, *a, *a]\nc: &c [*b, *b, *b, *b, *b, *b]\nd: [*c, *c, *c, *c, *c, *c]',
  'a: &a {x: *a}',
  '<<: {degradation_power: 9}',
  'base: &base {degradation_power: 3}\n<<: *base',
  '__proto__: {degradation_power: 7}',
  'constructor: {prototype: {polluted: 1}}',
  'degradation_power: .inf',
  'degradation_power: .nan',
  'degradation_power: -1',
  'degradation_power: 1e308',
  'degradation_power: "1.5"',
  'degradation_power: 0x7fffffffffffffff',
  'degradation_power: [1.5]',
  'degradation_power: 2024-01-01',
  'degradation_power: 0b1',
  'degradation_power: 99',
  'x: !!js/function "function () {}"',
  'x: !!python/object/apply:os.system ["true"]',
  'x: !!binary AAAA',
  '!!set {a, b}',
  '? [a, b]\n: 1',
  '? {a: 1}\n: 1',
  '---',
  '...',
  '%YAML 1.1\n---',
  '%TAG ! x:',
  '\tx: 1',
  'x: |\n   a\n  b',
  'x: "\\ud800"',
  'x: "\\0"',
  `x: ${'['.repeat(50)}`,
  `x: ${'{a: '.repeat(2000)}`,
  `${'- '.repeat(100)}1`,
  'null: 1',
  '1: 2\n1.0: 3',
  '- 1',
  '*missing : 1',
  '\ufeffx: 1',
  'x: ,',
  '@x: 1',
];

/** What takes a parser quadratic time where it compares everything with everything. */
function manyLines(random) {
  const line = random.pick([
    (i) => `k${i}: 1`,
    (i) => `k${i}: &a${i} 1`,
    () => ']',
    () => '- &a',
    (i) => `? k${i}`,
  ]);
  return Array.from({ length: random.pick([100, 12_000]) }, (_, i) => line(i))
    .join('\n')
    .slice(0, 90_000);
}

/** Changes lines of a YAML text, or its bytes. */
export function mutateYaml(text, random) {
  if (random.chance(0.25)) return mutateBytes(Buffer.from(text), random);
  const lines = text.split('\n');
  for (let n = 1 + random.below(3); n > 0; n--) {
    const at = random.below(lines.length);
    const choice = random.below(5);
    if (choice === 0) lines.splice(at, 1);
    else if (choice === 1) lines.splice(at, 0, lines[random.below(lines.length)]);
    else if (choice === 2) lines[at] = lines[at].replace(/:.*/, () => `: ${writeJson(strange(random))}`);
    else lines.splice(at, 0, random.chance(0.97) ? random.pick(yamlLines) : manyLines(random));
  }
  return Buffer.from(lines.join('\n'));
}
