import { DetailFlowError } from '@detailflow/core';
import type { HoldOutRecord } from './hold-out-record';

/** A model that another takes something from. */
export interface EarlierModel {
  readonly heldOut?: HoldOutRecord;
  readonly file?: string;
}

/**
 * What a model is measured by must be new to all that goes into it: another that was trained on as many images must have held out the
 * same ones. Of another data set nothing is known.
 * @throws DetailFlowError `config` naming the model and the settings that hold the same images out
 */
export function requireSameHeldOut(
  record: HoldOutRecord,
  models: readonly (EarlierModel | undefined)[],
): void {
  for (const { heldOut: earlier, file } of models.filter((model) => model !== undefined)) {
    if (!earlier?.rule || !record.rule) continue;
    if (earlier.images !== record.images || earlier.digest === record.digest) continue;
    const [now, then] = [record.rule, earlier.rule];
    if (now.seed === then.seed && now.share === then.share && now.groupBy === then.groupBy) continue; // other images
    throw new DetailFlowError(
      'config',
      `this model held out other images of a set of ${earlier.images}, so it was trained on some that are measured by here: set ` +
        `data.heldOut ${then.share}, data.splitSeed ${then.seed}${then.groupBy === undefined ? '' : `, data.groupBy "${then.groupBy}"`} as it was`,
      { file },
    );
  }
}
