import { type ConfigFields, DetailFlowError } from '@detailflow/core';
import type { OptimiserOptions } from './optimiser';

export const MOST_STEPS = 1e9;

/** Settings that both models have. */
export const recipeFields = [
  ...['model', 'steps', 'batch', 'microBatch', 'learningRate', 'warmup', 'initialFactor', 'finalFactor'],
  ...['betas', 'epsilon', 'clip', 'weightDecay', 'averageDecay', 'frozen', 'scaleByBatch'],
];

/** Of a batch that cannot be cut up. */
export const notMultiple = (batch: number, microBatch: number, entry: string, file?: string) =>
  new DetailFlowError('config', `the batch (${batch}) must be a multiple of microBatch (${microBatch})`, {
    ...{ file, entry },
  });

/** Names the section in errors of what knows only its own settings. */
export function inSection<T>(section: string, file: string | undefined, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!DetailFlowError.isInstance(error)) throw error;
    const entry = error.entry === undefined ? section : `${section}.${error.entry}`;
    const place = [error.file, error.entry].filter((part) => part !== undefined).join(': ');
    const reason = place === '' ? error.message : error.message.slice(place.length + 2);
    throw new DetailFlowError(error.code, reason, { file, entry, cause: error });
  }
}

/** The settings of {@link recipeFields} but the model. */
export function commonRecipe(
  fields: ConfigFields,
  section: 'tokenizer' | 'tokenModel',
  file: string | undefined,
  factors: { initialFactor: number; finalFactor: number },
) {
  const steps = whole(fields.number('steps', { least: 1, most: MOST_STEPS }), `${section}.steps`, file);
  const batch = fields.count('batch', 256);
  const microBatch = fields.count('microBatch', batch);
  if (batch % microBatch !== 0) throw notMultiple(batch, microBatch, `${section}.batch`, file);
  const factor = (name: 'initialFactor' | 'finalFactor') =>
    fields.number(name, { least: 0, most: 1, fallback: factors[name] });
  const optional = (name: string, most: number) =>
    fields.raw(name) === undefined ? undefined : fields.number(name, { least: 0, most });
  const [clip, weightDecay] = [optional('clip', 1e9), optional('weightDecay', 1)];
  const averageDecay = optional('averageDecay', 1);
  return {
    microBatch,
    learningRate:
      fields.positive('learningRate', { largest: 1 }) *
      (fields.flag('scaleByBatch', false) ? batch / 256 : 1),
    schedule: {
      steps,
      warmup: whole(
        fields.number('warmup', { least: 0, most: steps, fallback: 0 }),
        `${section}.warmup`,
        file,
      ),
      initialFactor: factor('initialFactor'),
      finalFactor: factor('finalFactor'),
    },
    optimiser: {
      betas: parseBetas(fields.raw('betas') ?? [0.9, 0.95], `${section}.betas`, file),
      epsilon: fields.positive('epsilon', { fallback: 1e-8, largest: 1 }),
      ...(clip !== undefined && { clip }),
      ...(weightDecay !== undefined && { weightDecay }),
    } satisfies OptimiserOptions,
    ...(averageDecay !== undefined && { averageDecay }),
    ...given<{ frozen: readonly string[] }>(fields, {
      frozen: () => texts(fields.raw('frozen'), `${section}.frozen`, file),
    }),
  };
}

function parseBetas(value: unknown, entry: string, file?: string): readonly [number, number] {
  const isBeta = (x: unknown) => typeof x === 'number' && x >= 0 && x < 1;
  if (Array.isArray(value) && value.length === 2 && value.every(isBeta)) return [value[0], value[1]];
  throw new DetailFlowError('config', 'must be two numbers from 0, below 1', { file, entry });
}

/** @throws DetailFlowError `config` unless it is a whole number */
export function whole(value: number, entry: string, file?: string): number {
  if (Number.isSafeInteger(value)) return value;
  throw new DetailFlowError('config', `is ${value}; must be a whole number`, { file, entry });
}

export const factor = (fields: ConfigFields, name: string, fallback: number) =>
  fields.number(name, { least: 0, most: 1000, fallback });

/** Those of some settings that are there: others are left out, so that configurations without them stay as they were. */
export function given<T extends object>(
  fields: ConfigFields,
  read: { [Name in keyof T]?: () => T[Name] },
): Partial<T> {
  const names = Object.keys(read).filter((name) => fields.raw(name) !== undefined) as (keyof T)[];
  return Object.fromEntries(names.map((name) => [name, read[name]?.()])) as Partial<T>;
}

/** A list of texts. */
function texts(value: unknown, entry: string, file?: string): readonly string[] {
  if (Array.isArray(value) && value.every((one) => typeof one === 'string' && one !== '')) return value;
  throw new DetailFlowError('config', 'must be a list of texts', { file, entry });
}
