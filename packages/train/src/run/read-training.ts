import { adamState, type StateDicts, stepsMade } from '@detailflow/checkpoint';
import { DetailFlowError, type Weights } from '@detailflow/core';
import { isOfDecoder } from '@detailflow/tokenizer';
import type { EarlierTraining } from './earlier-training';
import { LEARNING, OWN } from './official-training';

/** Torch's names for running statistics of batch norms. */
const STATISTICS = /\.(running_mean|running_var|num_batches_tracked)$/;

/**
 * The training that an official checkpoint was left by, and the parameters that it goes on with.
 * @param half which model it is of
 * @throws DetailFlowError `weights` when it has no optimiser or one of other parameters, `format`
 */
export async function readTraining(
  dicts: StateDicts,
  half: 'tokenizer' | 'ar',
): Promise<{ readonly weights: Weights; readonly training: EarlierTraining }> {
  const { checkpoint, file } = dicts;
  const named = (key: string) => dicts.at([key]);
  const model = named('model');
  const missing = (what: string) =>
    new DetailFlowError(
      'weights',
      `has no ${what}, which a training goes on from; there is ${dicts.keys.slice(0, 10).join(', ')}`,
      { file },
    );
  if (!checkpoint || !model) throw missing('"model" of a .pt file');
  const isBuffer = (name: string) => name === 'quantize.codebook_used';
  const isTower = (name: string) => name.startsWith('repa_model.');
  const optimiser = await adamState(checkpoint, {
    ...{ optimiser: 'optimizer', model: 'model', isBuffer },
    frozen: [isTower, (name) => !isOfDecoder(name), (name) => name.startsWith('tok_embeddings.')],
  });
  if (!optimiser) throw missing('"optimizer"');
  const furthest = Math.max(0, ...[...optimiser.moments.values()].map(({ step }) => step));
  const discriminator = half === 'tokenizer' ? named('discriminator') : undefined;
  const averages = named('ema');
  const own = named(OWN);
  const recentCodes = model.get('quantize.codebook_used');
  return {
    weights: named(LEARNING) ?? model,
    training: {
      ...{ step: stepsMade(checkpoint) ?? furthest, optimiser },
      ...(averages && { averages }),
      ...(own && { own }),
      ...(recentCodes && { recentCodes }),
      ...(discriminator && {
        discriminator: {
          weights: discriminator,
          optimiser: await adamState(checkpoint, {
            ...{ optimiser: 'optimizer_disc', model: 'discriminator' },
            isBuffer: (name) => STATISTICS.test(name),
          }).catch(ofAnother),
        },
      }),
    },
  };
}

/** An optimiser of another network than the discriminator is none; damaged ones are refused. */
function ofAnother(error: unknown): undefined {
  if (DetailFlowError.isInstance(error) && error.code === 'weights') return undefined;
  throw error;
}
