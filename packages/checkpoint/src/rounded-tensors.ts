import { DetailFlowError, type RoundedMatrix, type Weight, type Weights } from '@detailflow/core';
import { roundedWeight } from '@detailflow/core/rounded-weight';

/**
 * The key of a safetensors file's metadata under which stands what its rounded matrices are: JSON, the name of each with
 * [bits, block, columns], the block a number or "row". The levels of a matrix NAME are the tensor NAME.q8 or NAME.q4, its scales NAME.scales.
 */
const KEY = 'detailflow.rounded';

/** A file has at most so many characters of JSON under the key. */
const MOST_CHARACTERS = 2 ** 24;

/**
 * The weights of a file with its rounded matrices under their own names.
 * @throws DetailFlowError `format` for a record that is none, `weights` for tensors that are missing or misshapen
 */
export function withRoundedMatrices(
  weights: Weights,
  metadata: ReadonlyMap<string, string>,
  file: string,
): Weights {
  const text = metadata.get(KEY);
  if (text === undefined) return weights;
  const all = new Map(weights);
  for (const [name, { bits, block, columns }] of parseRecord(text, file)) {
    if (all.has(name)) {
      throw new DetailFlowError('format', 'is there both rounded and as it was', { file, entry: name });
    }
    const take = (part: string): Weight => {
      const found = all.get(`${name}.${part}`);
      if (!found) {
        throw new DetailFlowError('weights', `${name} is rounded, and this tensor of it is missing`, {
          file,
          entry: `${name}.${part}`,
        });
      }
      all.delete(`${name}.${part}`);
      return found;
    };
    const matrix = { bits, block, values: take(`q${bits}`), scales: take('scales') } as RoundedMatrix;
    const [out] = matrix.scales.shape;
    all.set(name, roundedWeight(name, [out, columns], matrix, file));
  }
  return all;
}

interface Entry {
  readonly bits: number;
  readonly block: number | 'row';
  readonly columns: number;
}

function parseRecord(text: string, file: string): Map<string, Entry> {
  const fail = (reason: string, entry: string = KEY, cause?: unknown) =>
    new DetailFlowError('format', reason, { file, entry, cause });
  if (text.length > MOST_CHARACTERS) throw fail(`has ${text.length} characters, at most ${MOST_CHARACTERS}`);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw fail('is no JSON', KEY, cause);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw fail('must be an object of names and [bits, block, columns]');
  }
  return new Map(
    Object.entries(value).map(([name, numbers]) => {
      const isValid =
        Array.isArray(numbers) &&
        numbers.length === 3 &&
        numbers.every(
          (number, i) => (Number.isSafeInteger(number) && number > 0) || (i === 1 && number === 'row'),
        );
      if (!isValid)
        throw fail(`is ${JSON.stringify(numbers)?.slice(0, 80)}; must be [bits, block, columns]`, name);
      const [bits, block, columns] = numbers as [number, number | 'row', number];
      return [name, { bits, block, columns }];
    }),
  );
}

/** The tensors that weights are stored as, and what the file's metadata say of them. */
export function storedTensors(weights: Weights): {
  readonly tensors: Weights;
  readonly metadata: Readonly<Record<string, string>>;
} {
  const tensors = new Map<string, Weight>();
  const record: [string, readonly (number | 'row')[]][] = [];
  const add = (name: string, weight: Weight) => {
    if (tensors.has(name)) {
      throw new DetailFlowError('invalid-argument', 'two tensors would have this name', { entry: name });
    }
    tensors.set(name, weight);
  };
  for (const [name, weight] of weights) {
    const { rounded } = weight;
    if (!rounded) {
      add(name, weight);
      continue;
    }
    add(`${name}.q${rounded.bits}`, rounded.values);
    add(`${name}.scales`, rounded.scales);
    record.push([name, [rounded.bits, rounded.block, weight.shape[1]]]);
  }
  // Joined by hand: "__proto__" would vanish as a key of an object.
  const fields = record.map(([name, numbers]) => `${JSON.stringify(name)}:${JSON.stringify(numbers)}`);
  return { tensors, metadata: record.length === 0 ? {} : { [KEY]: `{${fields.join(',')}}` } };
}
