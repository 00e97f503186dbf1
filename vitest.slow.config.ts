import { defineConfig } from 'vitest/config';

/** Full-size models, long fuzzing, training: run on their own by `npm run test:slow`. */
export default defineConfig({
  test: {
    // Tests that run ONNX Runtime themselves leave nothing under the home folder either.
    env: { ORT_DISABLE_TELEMETRY: '1' },
    include: ['packages/*/src/**/*.slow.test.ts', 'tests/**/*.slow.test.ts'],
    testTimeout: 1_800_000,
    hookTimeout: 1_800_000,
    maxWorkers: 1,
  },
});
