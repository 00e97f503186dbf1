import { createNodeBackend } from '@detailflow/backend-node';
import type { Backend } from '@detailflow/core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { tinyTrainer } from './test-trainer';

let backend: Backend & { close(): Promise<void> };
beforeAll(async () => {
  backend = await createNodeBackend({ threads: 1 });
});
afterAll(() => backend.close());

const adversarial = { start: 2, weight: 0.2, adaptive: true, lecam: 0.001, consistency: 4 };

test('a loss without its network is refused', async () => {
  for (const [recipe, message] of [
    [{ perceptual: { network: 'classifier', weight: 1, warmup: 0 } }, 'needs its network'],
    [{ adversarial }, 'needs a discriminator'],
    [{ alignment: { weight: 1 } }, 'needs a network whose features'],
  ] as const) {
    await expect(tinyTrainer(backend, recipe, {})).rejects.toThrow(message);
  }
});
