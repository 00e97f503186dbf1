import { parameterAccess } from '@detailflow/blocks';
import { type Backend, pictureFromPixels, Tensor, trace } from '@detailflow/core';
import { createVqTokenizer, vqConfigOf, vqLosses, vqParameters } from '@detailflow/llamagen';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { devices, openDevice } from './devices';
import { expectClose } from './golden';
import { integers, withGradients } from './golden-family';
import {
  entriesOf,
  expectGradients,
  oddVqTokenizers,
  planes,
  sampledOf,
  weightsOf,
  wholeNumbers,
} from './llamagen-models';
import { runOnce } from './run-once';
import { numbersOf } from './softvq-models';

/** The interpreter, whose operations the conformance cases hold, takes its time: the small ones. */
const INTERPRETED = ['two levels, sixteen numbers a code', 'VQ-8'];

describe.each(Object.keys(oddVqTokenizers))('%s', (name) => {
  const one = oddVqTokenizers[name];
  const { rows, columns, factor, isNormalised } = one;
  const weights = weightsOf(one.shapes);
  const config = vqConfigOf(weights, { imageSize: factor * rows, isNormalised });
  const sides = [2, 3, rows * factor, columns * factor];
  const images = new Tensor('float32', numbersOf(one.image.name, sides), sides);

  test('weights', () => {
    const specs = vqParameters(config).map((spec) => [spec.name, spec.shape]);
    expect(Object.fromEntries(specs)).toEqual(Object.fromEntries(entriesOf(one.shapes)));
  });

  const able = devices.filter((device) => device !== 'reference' || INTERPRETED.includes(name));
  describe.each(able)('on the %s backend', (device) => {
    let backend: Backend;
    beforeAll(async () => {
      backend = await openDevice(device);
    });
    afterAll(() => backend.close());

    test('pixels -> codes, codes -> pixels', async () => {
      const tokenizer = createVqTokenizer({ config, weights, backend });
      expect(integers(await tokenizer.encode(images))).toEqual(one.image.codes);
      const codes = wholeNumbers(name, config.codebookSize, 2 * rows * columns);
      const pixels = await tokenizer.decodeGrid(new Tensor('int32', codes, [2, rows * columns]), {
        rows,
        columns,
      });
      expect(pixels.dims).toEqual(sides);
      expectClose(sampledOf(pixels.data, one.pixels), one.pixels.values);
      const bytes = [0, 1].flatMap((image) => planes(pictureFromPixels(pixels, image).data));
      const found = sampledOf(bytes, one.pixels);
      expect(found.filter((_, i) => one.bytes[i] >= 0)).toEqual(one.bytes.filter((byte) => byte >= 0));
      if (one.resized) {
        const square = wholeNumbers('square', config.codebookSize, rows * rows);
        const { size } = one.resized;
        const resized = await tokenizer.decode(new Tensor('int32', square, [1, rows * rows]), { size });
        expectClose(sampledOf(resized.data as Float32Array, one.resized), one.resized.values);
      }
      await tokenizer.dispose();
    });

    const { train } = one;
    if (!train) return;
    test('a step of training: losses and gradients', async () => {
      const graph = trace((g) => {
        const p = parameterAccess(g, vqParameters(config));
        const options = { commitBeta: train.beta, entropyRatio: train.ratio };
        const { pixels: _, ...losses } = vqLosses(p, config, g.input('images', 'f32', sides), options);
        return withGradients(
          losses,
          p,
          entriesOf(train.gradients).map(([one]) => one),
        );
      });
      const results = await runOnce(backend, graph, weights, { images });
      for (const [loss, value] of Object.entries(train.losses)) {
        expectClose([Number(results[loss].data[0])], [value]);
      }
      expectGradients(results, train.gradients);
    });
  });
});
