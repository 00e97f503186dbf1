import { extents } from './describe';
import { DetailFlowError } from './errors';

/**
 * Extent of an axis: a number, or a polynomial with integer coefficients over named symbols such as `batch`.
 * Two extents are equal when their polynomials are; nothing is solved for. That is enough to check every
 * reshape and broadcast of the models while one graph serves every batch, token count and image size.
 */
export type Dim = number | SymbolicDim;
/** Extents of a value, outermost first; each a number or a polynomial over symbols. */
export type Shape = readonly Dim[];

/** A polynomial that is not a plain number. Made by {@link symbol} and the functions below. */
export class SymbolicDim {
  /** Monomial ('batch', 'side*side', '' for 1) -> coefficient, never 0. */
  readonly terms: ReadonlyMap<string, number>;

  constructor(terms: ReadonlyMap<string, number>) {
    this.terms = terms;
  }

  /** The polynomial, for messages. */
  toString(): string {
    const parts = [...this.terms].map(([monomial, factor]) => {
      if (monomial === '') return `${factor}`;
      return factor === 1 ? monomial : `${factor}*${monomial}`;
    });
    return parts.join('+');
  }
}

/** The extent called `name`: letters and digits only. */
export function symbol(name: string): SymbolicDim {
  if (!/^[A-Za-z]\w*$/.test(name)) {
    throw new DetailFlowError(
      'invalid-argument',
      `"${name}" is no name for a dimension: use letters and digits`,
    );
  }
  return new SymbolicDim(new Map([[name, 1]]));
}

/** a + b, as a number where it is one. */
export function addDims(a: Dim, b: Dim): Dim {
  return combine(a, b, 1);
}

/** a - b, as a number where it is one. */
export function subtractDims(a: Dim, b: Dim): Dim {
  return combine(a, b, -1);
}

/** a * b, as a number where it is one. */
export function multiplyDims(a: Dim, b: Dim): Dim {
  if (typeof a === 'number' && typeof b === 'number') return a * b;
  const terms = new Map<string, number>();
  for (const [left, p] of termsOf(a)) {
    for (const [right, q] of termsOf(b)) {
      const monomial = [...split(left), ...split(right)].sort().join('*');
      terms.set(monomial, (terms.get(monomial) ?? 0) + p * q);
    }
  }
  return normalise(terms);
}

/** Whether two extents are equal whatever their symbols stand for. */
export function sameDim(a: Dim, b: Dim): boolean {
  return typeof a === 'number' || typeof b === 'number' ? a === b : subtractDims(a, b) === 0;
}

/** Whether two shapes have as many axes, and equal extents. */
export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((dim, axis) => sameDim(dim, b[axis]));
}

/** Number of elements. */
export function sizeOf(shape: Shape): Dim {
  return shape.reduce<Dim>(multiplyDims, 1);
}

/** Values of the symbols. */
export type Bindings = Readonly<Record<string, number>>;

/**
 * The extent as a number.
 * @throws DetailFlowError `shape` when a symbol has no value
 */
export function evaluateDim(dim: Dim, bindings: Bindings): number {
  if (typeof dim === 'number') return dim;
  let sum = 0;
  for (const [monomial, factor] of dim.terms) {
    sum += split(monomial).reduce((product, name) => product * bindingOf(name, bindings), factor);
  }
  return sum;
}

/**
 * The extents as numbers.
 * @throws DetailFlowError `shape` when a symbol has no value
 */
export function evaluateShape(shape: Shape, bindings: Bindings): number[] {
  return shape.map((dim) => evaluateDim(dim, bindings));
}

/** The symbol's name when the extent is exactly one symbol. */
export function plainSymbol(dim: Dim): string | undefined {
  if (typeof dim === 'number' || dim.terms.size !== 1) return undefined;
  const [[monomial, factor]] = dim.terms;
  return factor === 1 && !monomial.includes('*') ? monomial : undefined;
}

/** The extent as terms: each a coefficient and the symbols it is multiplied by. */
export function dimTerms(dim: Dim): { factor: number; symbols: string[] }[] {
  return [...termsOf(dim)].map(([monomial, factor]) => ({ factor, symbols: split(monomial) }));
}

/** A shape for messages: `[batch, 3, 16]`. */
export function formatShape(shape: Shape): string {
  return extents(shape);
}

function combine(a: Dim, b: Dim, sign: 1 | -1): Dim {
  if (typeof a === 'number' && typeof b === 'number') return a + sign * b;
  const terms = new Map(termsOf(a));
  for (const [monomial, factor] of termsOf(b))
    terms.set(monomial, (terms.get(monomial) ?? 0) + sign * factor);
  return normalise(terms);
}

function normalise(terms: Map<string, number>): Dim {
  const kept = new Map([...terms].filter(([, factor]) => factor !== 0).sort(([a], [b]) => (a < b ? 1 : -1)));
  if (kept.size === 0) return 0;
  const constant = kept.get('');
  return kept.size === 1 && constant !== undefined ? constant : new SymbolicDim(kept);
}

function termsOf(dim: Dim): ReadonlyMap<string, number> {
  return typeof dim === 'number' ? new Map([['', dim]]) : dim.terms;
}

function split(monomial: string): string[] {
  return monomial === '' ? [] : monomial.split('*');
}

function bindingOf(name: string, bindings: Bindings): number {
  const value = bindings[name];
  if (value === undefined) throw new DetailFlowError('shape', `the dimension "${name}" has no value`);
  return value;
}
