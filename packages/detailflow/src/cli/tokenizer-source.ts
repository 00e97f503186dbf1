import { officialHalf } from '../detailflow-folder';
import { type ModelSource, type SourceOptions, toTree } from '../folder-source';
import { namedFolder } from './model-options';

/**
 * The model whose tokenizer is to be used: a whole one, or the folder of an official tokenizer.
 * @throws UsageError for the name of a package that is not installed; DetailFlowError `io`
 */
export async function tokenizerSource(text: string, options: SourceOptions): Promise<ModelSource> {
  const folder = namedFolder(text);
  return (await officialHalf(await toTree(folder, options))) === 'tokenizer' ? { tokenizer: folder } : folder;
}
