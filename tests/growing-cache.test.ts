import { createNodeBackend } from '@detailflow/backend-node';
import type { Backend, State } from '@detailflow/core';
import { modelUrl } from '@detailflow/model-fashion-32';
import { createPictureBatch } from '@detailflow/sampler/batch';
import { load } from 'detailflow';
import { expect, test } from 'vitest';

/** What the states of a backend were resized to; or none of them can be. */
function watched(backend: Backend, canResize: boolean): { backend: Backend; extents: number[] } {
  const extents: number[] = [];
  const watch = (state: State): State => {
    const resize = state.resize?.bind(state);
    const value = canResize
      ? (axis: number, extent: number) => {
          extents.push(extent);
          return resize?.(axis, extent);
        }
      : undefined;
    return Object.defineProperty(state, 'resize', { value });
  };
  const compile: Backend['compile'] = async (...args) => {
    const executable = await backend.compile(...args);
    const createState = executable.createState.bind(executable);
    return Object.assign(executable, { createState: async (dims: never) => watch(await createState(dims)) });
  };
  return {
    extents,
    backend: {
      ...{ name: backend.name, stateWindows: backend.stateWindows, compile },
      createState: (tensors) => backend.createState(tensors),
      close: () => backend.close(),
      [Symbol.asyncDispose]: () => backend.close(),
    },
  };
}

test.each(['fp32', 'q8'] as const)(
  'a cache that grows makes no difference to what is drawn, alone or in a pool, in %s',
  async (dtype) => {
    const found: { tokens: string; pooled: string }[] = [];
    for (const canResize of [true, false]) {
      const { backend, extents } = watched(await createNodeBackend({ threads: 2 }), canResize);
      const model = await load(modelUrl, { backend, dtype });
      let tokens = '';
      for await (const step of model.generate({ labels: [3, 5], seed: 1 })) {
        if (step.count === step.total) tokens = (await step.tokens()).data.join();
      }
      if (!model.tokenModel) throw new Error('the model draws nothing');
      const batch = createPictureBatch({ model: model.tokenModel, pictures: 3 });
      const draw = async (label: number, seed: number) => {
        let last = '';
        for await (const step of batch.sample({ label, seed })) {
          if (step.count === step.total) last = (await step.tokens()).data.join();
        }
        return last;
      };
      // The third begins when the first two have ended, so the cache shrinks again.
      const pooled = [...(await Promise.all([draw(3, 7), draw(4, 8)])), await draw(5, 9)].join(' ');
      found.push({ tokens, pooled });
      if (canResize) expect(extents).toEqual([32, 64, 32, 64, 32, 64]);
      await batch.close();
      await model.dispose();
      await backend.close();
    }
    expect(found[0].tokens.split(',')).toHaveLength(2 * 64);
    expect(found[0]).toEqual(found[1]);
  },
);
