import { codeViewCount } from '@detailflow/data';
import { CodeStore } from './code-store';
import { codesShard, codesView } from './codes-work';
import { extractCodes } from './extract-codes';
import { writeOfficialCodes } from './official-codes';
import type { StageContext } from './stage-context';

/** Encodes the training images of a run. @returns whether all are */
export async function makeCodes(run: StageContext): Promise<boolean> {
  const { signal, onProgress } = run.options;
  const { data, seed, tokenizer } = run.config;
  const parameters = await run.tokenizer();
  const { train: dataset } = run.data;
  const { codebookSize, imageSize } = tokenizer.model;
  const { model, imageSize: size = imageSize } = run.config.tokenModel;
  const { tokens } = model;
  const store = await CodeStore.begin(await run.codesFolder(), {
    images: dataset.labels.length,
    views: codeViewCount(data.views, data.cropRanges),
    tokens,
    codebookSize,
    shard: codesShard(run.options.codesShard),
    origin: run.codesOrigin(parameters),
  });
  const tokenizers = run.backends.map((backend) => run.createTokenizer(backend, parameters));
  try {
    await extractCodes({
      ...{ tokenizers, dataset, store, seed, signal },
      ...codesView(run.config),
      elsewhere: run.options.codesElsewhere?.({
        ...{ config: run.config, images: run.data.images.train, origin: store.header.origin },
        views: store.header.views,
      }),
      onSkip: run.options.onSkip,
      onProgress: (done, total) => onProgress?.({ stage: 'codes', done, total }),
    });
    const { saveCodes: folder } = run.options;
    if (folder !== undefined) {
      const of = { tokenizer: tokenizer.model, size, tokens };
      await writeOfficialCodes(store, { folder, name: run.config.name, labels: dataset.labels, of, signal });
    }
    return true;
  } finally {
    for (const one of tokenizers) await one.dispose();
    await store.close();
  }
}
