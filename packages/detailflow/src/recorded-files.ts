import type { FileTree } from '@detailflow/checkpoint';
import { type ModelSource, modelFiles, type SourceOptions } from './folder-source';

/** A file that was opened while a model was. */
export interface RecordedFile {
  readonly tree: FileTree;
  readonly path: string;
  readonly size: number;
}

/** The same model; from then on, `seen` lists which of its files were opened. */
export async function recordedSource(
  source: ModelSource,
  seen: RecordedFile[],
  options: SourceOptions = {},
): Promise<ModelSource> {
  const watch = (tree: FileTree): FileTree => ({
    name: tree.name,
    exists: (file) => tree.exists(file),
    list: (folder) => tree.list(folder),
    async open(file) {
      const opened = await tree.open(file);
      if (!seen.some((one) => one.tree === tree && one.path === file)) {
        seen.push({ tree, path: file, size: opened.size });
      }
      return opened;
    },
  });
  const files = await modelFiles(source, options);
  if ('model' in files) return watch(files.model);
  return { tokenizer: watch(files.tokenizer), ...(files.ar && { ar: watch(files.ar) }) };
}
