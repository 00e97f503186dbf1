import type { BundleCard, ConfigObject } from '@detailflow/checkpoint';
import { type HoldOutRecord, parseHoldOutRecord } from '@detailflow/data';

/**
 * What the training of a model held out, where its bundle says so.
 * @param file for messages
 * @throws DetailFlowError `config` for a record that is none
 */
export function heldOutBy(card: BundleCard | undefined, file: string): HoldOutRecord | undefined {
  const record = (card?.data as ConfigObject | undefined)?.heldOut;
  return record === undefined ? undefined : parseHoldOutRecord(record, { file, entry: 'data.heldOut' });
}
