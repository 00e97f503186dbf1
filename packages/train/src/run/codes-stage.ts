import { DetailFlowError } from '@detailflow/core';
import { codeViewCount } from '@detailflow/data';
import { CodeStore } from './code-store';
import { codesShard, codesView } from './codes-work';
import { type CodesElsewhere, extractCodes } from './extract-codes';
import { detailflowTokenizer, writeOfficialCodes } from './official-codes';
import type { StageContext } from './stage-context';

/** Encodes the training images of a run. @returns whether all are */
export async function makeCodes(run: StageContext): Promise<boolean> {
  const { signal, onProgress } = run.options;
  const { data, seed, name } = run.config;
  const parameters = await run.tokenizer();
  const { train: dataset } = run.data;
  const { tokenizer } = run.models;
  const { codebookSize } = tokenizer;
  const { imageSize: size, tokens } = run.models.tokenModel(dataset.classNames.length);
  const store = await CodeStore.begin(await run.codesFolder(), {
    images: dataset.labels.length,
    views: codeViewCount(data.views, data.cropRanges),
    tokens,
    codebookSize,
    shard: codesShard(run.options.codesShard),
    origin: run.codesOrigin(parameters),
  });
  const tokenizers = run.backends.map((backend) => tokenizer.create(backend, parameters));
  try {
    await extractCodes({
      ...{ tokenizers, dataset, store, seed, signal },
      ...codesView(data, size),
      elsewhere: elsewhereOf(run, store),
      onSkip: run.options.onSkip,
      onProgress: (done, total) => onProgress?.({ stage: 'codes', done, total }),
    });
    const { saveCodes: folder } = run.options;
    if (folder !== undefined) {
      const of = { tokenizer: detailflowTokenizer(run.config, 'saveCodes'), size, tokens };
      await writeOfficialCodes(store, { folder, name, labels: dataset.labels, of, signal });
    }
    return true;
  } finally {
    for (const one of tokenizers) await one.dispose();
    await store.close();
  }
}

function elsewhereOf(run: StageContext, store: CodeStore): CodesElsewhere | undefined {
  const { codesElsewhere } = run.options;
  if (!codesElsewhere) return undefined;
  const { config } = run;
  if ('family' in config) {
    throw new DetailFlowError(
      'unsupported',
      `codes of ${config.family} are made here; other machines make those of DetailFlow`,
      { entry: 'codesElsewhere' },
    );
  }
  const { origin, views } = store.header;
  return codesElsewhere({ config, images: run.data.images.train, origin, views });
}
