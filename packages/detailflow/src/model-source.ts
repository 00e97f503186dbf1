import { type CallOptions, checkOptions, DetailFlowError } from '@detailflow/core';
import { isDetailFlow, type OpenedModel } from './detailflow-family';
import type { ModelSource } from './folder-source';
import { openFamilyModel } from './open-family';

/**
 * Opens a DetailFlow model and checks that its weights fit its configuration.
 * @throws DetailFlowError naming the file and what is wrong with it; `unsupported` for a model of another family
 */
export async function openModel(source: ModelSource, options: CallOptions = {}): Promise<OpenedModel> {
  checkOptions('openModel', options, { signal: true });
  const opened = await openFamilyModel(source, options);
  if (isDetailFlow(opened)) return opened;
  await opened.close();
  throw new DetailFlowError(
    'unsupported',
    `is a model of ${opened.family}: this takes models of DetailFlow only`,
    {
      file: opened.ar?.file ?? opened.tokenizer.file,
    },
  );
}
