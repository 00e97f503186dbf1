import { bundleRun } from '@detailflow/train/node';
import type { Report } from './command';
import { openTrained } from './open-initial';
import { trainingFamilies } from './training-families';
import type { Values } from './values';

/** `train bundle`: a model from any checkpoint of a run. */
export async function trainBundle(values: Values, signal: AbortSignal): Promise<Report> {
  const [run, out] = [values.required('run'), values.required('out')];
  const source = values.text('tokenizer');
  const given = source === undefined ? undefined : await openTrained(source, { isOfFamily: true, signal });
  try {
    const made = await bundleRun({
      ...{ run, out, tokenizer: given?.tokenizer, overwrite: values.flag('overwrite') },
      families: trainingFamilies,
      stage: values.choice('stage', ['tokenizer', 'ar'] as const),
      step: values.whole('step'),
    });
    const steps = Object.entries(made.steps).map(([stage, step]) => `${stage} of step ${step}`);
    return { lines: [`${made.bundle}: ${steps.join(', ')}`], json: { ...made } };
  } finally {
    await given?.close();
  }
}
