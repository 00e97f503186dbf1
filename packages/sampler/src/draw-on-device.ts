import { type DrawingStep, Tensor, type TokenModel } from '@detailflow/core';
import type { SamplePlan, SampleStep } from './sample-plan';

type Begin = NonNullable<TokenModel['beginDrawing']>;

/**
 * Samples on the device of the model, which gets the noise and hands out tokens when somebody asks for them. All steps
 * must be drawn alike but for scale and temperature.
 */
export async function* drawOnDevice(plan: SamplePlan, begin: Begin): AsyncGenerator<SampleStep, void, void> {
  const { model, conditions, steps, greedy, isGuided, total, givenAt, noiseOf, signal } = plan;
  const images = conditions.length;
  const size = model.vocabularySize;
  const [{ choice }] = steps;
  const session = await begin(conditions, { isGuided, topK: choice.topK, isGreedy: greedy, signal });
  let last: Tensor<'int32'> | undefined;
  const read = async (count: number): Promise<Tensor<'int32'>> => {
    const { data, dims } = last ?? (await session.tokens());
    const tokens = new Int32Array(images * count);
    for (let i = 0; i < images; i++) {
      tokens.set((data as Int32Array).subarray(i * dims[1], i * dims[1] + count), i * count);
    }
    return new Tensor('int32', tokens, [images, count]);
  };
  try {
    for (const { position, count, scale, choice, isGiven } of steps) {
      signal?.throwIfAborted();
      await session.draw(
        {
          scale,
          temperature: choice.temperature,
          ...givenFor(position, count),
          ...(!greedy && { noise: noiseFor(position, count) }),
        },
        { signal },
      );
      const known = position + count;
      if (!isGiven || known === total) yield { count: known, total, tokens: () => read(known) };
    }
  } finally {
    // Steps may be asked after the loop: what was drawn is kept, unless the device is gone.
    last = session.position > 0 ? await session.tokens().catch(() => undefined) : undefined;
    await session.dispose();
  }

  function givenFor(position: number, count: number): Pick<DrawingStep, 'given' | 'isGiven'> {
    const isGiven = Uint8Array.from({ length: count }, (_, k) =>
      Number(givenAt(0, position + k) !== undefined),
    );
    if (!isGiven.includes(1)) return {};
    const given = Int32Array.from(
      { length: images * count },
      (_, i) => givenAt(Math.floor(i / count), position + (i % count)) ?? 0,
    );
    return { given, isGiven };
  }

  function noiseFor(position: number, count: number): Float32Array {
    const noise = new Float32Array(images * count * size);
    for (let image = 0; image < images; image++) {
      for (let k = 0; k < count; k++) noise.set(noiseOf(image, position + k), (image * count + k) * size);
    }
    return noise;
  }
}
