import { Tensor, type TokenModel } from '@detailflow/core';
import { guidanceScale, needsGuidance } from './guidance';
import type { SamplePlan, SampleStep } from './sample-plan';

type Begin = NonNullable<TokenModel['beginDrawing']>;

/** Samples on the device of the model, which gets the noise and hands out tokens when somebody asks for them. */
export async function* drawOnDevice(plan: SamplePlan, begin: Begin): AsyncGenerator<SampleStep, void, void> {
  const { model, labels, choice, guidance, greedy, total, given, prefix, noiseOf, signal } = plan;
  const size = model.vocabularySize;
  const session = await begin(labels, {
    isGuided: needsGuidance(guidance),
    topK: choice.topK,
    isGreedy: greedy,
    signal,
  });
  let last: Tensor<'int32'> | undefined;
  const read = async (count: number): Promise<Tensor<'int32'>> => {
    const { data, dims } = last ?? (await session.tokens());
    const tokens = new Int32Array(labels.length * count);
    for (let i = 0; i < labels.length; i++) {
      tokens.set((data as Int32Array).subarray(i * dims[1], i * dims[1] + count), i * count);
    }
    return new Tensor('int32', tokens, [labels.length, count]);
  };
  try {
    for (let position = 0; position < total; ) {
      signal?.throwIfAborted();
      const { nextCount: count } = session;
      await session.draw(
        {
          scale: guidanceScale(position, model, guidance),
          temperature: choice.temperature,
          given: givenTokens(position, count),
          ...(!greedy && { noise: noiseFor(position, count) }),
        },
        { signal },
      );
      position += count;
      if (position > given || position === total) {
        const known = position;
        yield { count: known, total, tokens: () => read(known) };
      }
    }
  } finally {
    // Steps may be asked after the loop: what was drawn is kept, unless the device is gone.
    last = session.position > 0 ? await session.tokens().catch(() => undefined) : undefined;
    await session.dispose();
  }

  function givenTokens(position: number, count: number): Int32Array | undefined {
    const known = Math.min(count, given - position);
    if (!prefix || known <= 0) return undefined;
    return Int32Array.from({ length: labels.length * known }, (_, i) => {
      const [image, k] = [Math.floor(i / known), i % known];
      return prefix.data[image * given + position + k] as number;
    });
  }

  function noiseFor(position: number, count: number): Float32Array {
    const noise = new Float32Array(labels.length * count * size);
    for (let image = 0; image < labels.length; image++) {
      for (let k = 0; k < count; k++) noise.set(noiseOf(image, position + k), (image * count + k) * size);
    }
    return noise;
  }
}
