/** The most characters that a quoted value takes. */
const LONGEST = 80;
/** Lists of more items are counted, not shown. */
const SHOWN = 8;

/** A value in a message: short whatever it is, so that a million numbers never end up in one. */
export function describe(value: unknown): string {
  if (value === undefined) return 'missing';
  if (typeof value === 'string') return cut(JSON.stringify(value));
  if (typeof value === 'function') return value.name ? `the function ${cut(value.name)}` : 'a function';
  if (typeof value !== 'object' || value === null) return cut(String(value));
  if (Array.isArray(value)) return list(value);
  if (ArrayBuffer.isView(value)) {
    const { length } = value as unknown as { length?: number };
    return `a ${value.constructor.name} of ${length ?? value.byteLength} values`;
  }
  const { type, dims } = value as { type?: unknown; dims?: unknown };
  if (typeof type === 'string' && Array.isArray(dims)) return `${cut(type)} ${extents(dims)}`;
  const name = Object.getPrototypeOf(value)?.constructor?.name;
  return name === undefined || name === 'Object' ? 'an object' : `an object ${cut(String(name))}`;
}

/** Extents of a shape: `[1, 3, 32, 32]`, the first ones only where there are too many to be a shape. */
export function extents(shape: ArrayLike<unknown>): string {
  const shown = Array.from({ length: Math.min(shape.length, SHOWN) }, (_, i) => cut(String(shape[i])));
  return shape.length <= SHOWN
    ? `[${shown.join(', ')}]`
    : `[${shown.join(', ')}, ... ${shape.length} in all]`;
}

function list(values: readonly unknown[]): string {
  const isShort = values.length <= SHOWN && values.every((value) => typeof value === 'number');
  return isShort ? extents(values) : `a list of ${values.length} items`;
}

const cut = (text: string): string => (text.length > LONGEST ? `${text.slice(0, LONGEST)}...` : text);
