import { readFileSync } from 'node:fs';
import { Tensor, trace } from '@detailflow/core';
import { createReferenceBackend } from '@detailflow/core/reference';
import { expect, test } from 'vitest';
import { numbers, weightsByFormula } from '../../../tests/numbers-by-formula';
import { type ClassifierConfig, classifier, classifierParameters } from './classifier';
import { networkWeights } from './parameters';

/** By torch: tools/reference/classifier.py. */
const reference: { features: number[]; logits: number[] } = JSON.parse(
  readFileSync(new URL('../../../tests/fixtures/classifier.json', import.meta.url), 'utf8'),
);

test('features and logits of torch', async () => {
  const config: ClassifierConfig = { imageSize: 16, classes: 5, widths: [4, 6, 8], features: 12 };
  const specs = classifierParameters(config);
  const graph = trace((g) => ({
    ...classifier(networkWeights(g, specs), config, g.input('images', 'f32', [3, 3, 16, 16])),
  }));
  const executable = await createReferenceBackend().compile(graph, weightsByFormula(specs));
  const images = numbers('classifier/images', 3 * 3 * 16 * 16).map(
    (x) => Math.round(127.5 + 127.5 * x) / 127.5 - 1,
  );
  const found = await executable.run({ images: new Tensor('float32', images, [3, 3, 16, 16]) });
  for (const name of ['features', 'logits'] as const) {
    expect(found[name].data).toHaveLength(reference[name].length);
    for (const [i, value] of reference[name].entries()) {
      expect(Math.abs((found[name].data[i] as number) - value)).toBeLessThan(1e-5);
    }
  }
});
