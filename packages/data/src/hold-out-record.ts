import { ConfigFields, DetailFlowError } from '@detailflow/core';
import type { ImageDataset } from './dataset';
import type { HoldOutRule } from './hold-out';

/** Which images a training held out, and by what a data set can be known again. */
export interface HoldOutRecord {
  /** Missing where the data set has a test part of its own. */
  readonly rule?: HoldOutRule;
  /** All images. */
  readonly images: number;
  readonly heldOut: number;
  /** SHA-256 of names (where there are any), classes and sides of all images, as hexadecimal digits. */
  readonly digest: string;
}

/** A data set in two parts, and by which rule it was divided. */
interface Divided {
  readonly train: ImageDataset;
  readonly heldOut: ImageDataset;
  readonly rule?: HoldOutRule;
}

/** What there is to know about a division. Names and classes are looked at, not pixels. */
export async function holdOutRecord({ train, heldOut, rule }: Divided): Promise<HoldOutRecord> {
  const described = [train, heldOut].map(({ labels, names, classNames }) => ({
    classNames,
    labels: [...labels],
    names: names ?? [],
  }));
  const bytes = new TextEncoder().encode(JSON.stringify(described));
  const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return {
    ...(rule && { rule: { ...rule } }),
    images: train.labels.length + heldOut.labels.length,
    heldOut: heldOut.labels.length,
    digest: Array.from(hash, (byte) => byte.toString(16).padStart(2, '0')).join(''),
  };
}

/**
 * Reads a record as it stands in a file.
 * @throws DetailFlowError `config` naming the entry
 */
export function parseHoldOutRecord(value: unknown, at: { file?: string; entry?: string }): HoldOutRecord {
  const { file, entry: prefix } = at;
  const inside = (name: string) => (prefix === undefined ? name : `${prefix}.${name}`);
  const fields = new ConfigFields(value, { file, prefix });
  const rule = fields.raw('rule');
  const digest = fields.raw('digest');
  if (typeof digest !== 'string' || !/^[0-9a-f]{64}$/.test(digest)) {
    throw new DetailFlowError('config', 'must be 64 hexadecimal digits', { file, entry: inside('digest') });
  }
  return {
    ...(rule !== undefined && { rule: parseHoldOutRule(rule, { file, entry: inside('rule') }) }),
    images: fields.count('images'),
    heldOut: fields.count('heldOut'),
    digest,
  };
}

function parseHoldOutRule(value: unknown, { file, entry }: { file?: string; entry: string }): HoldOutRule {
  const fields = new ConfigFields(value, { file, prefix: entry });
  const groupBy = fields.raw('groupBy');
  const isSeparator = typeof groupBy === 'string' && groupBy.length >= 1 && groupBy.length <= 20;
  if (groupBy !== undefined && !isSeparator) {
    throw new DetailFlowError('config', 'must be a text of 1 to 20 characters', {
      ...{ file, entry: `${entry}.groupBy` },
    });
  }
  return {
    share: fields.number('share', { least: 0, most: 1 }),
    seed: fields.number('seed', { least: 0, most: 2 ** 48 }),
    ...(isSeparator && { groupBy }),
  };
}
