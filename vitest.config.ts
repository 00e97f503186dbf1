import { defineConfig } from 'vitest/config';

/** Puts another module in the place of `node:fs`, which must not reach other files. */
const apart = ['packages/checkpoint/src/write-bundle.test.ts'];

export default defineConfig({
  test: {
    // Tests that run ONNX Runtime themselves leave nothing under the home folder either.
    env: { ORT_DISABLE_TELEMETRY: '1' },
    // Only what hangs: a busy machine may take ten times as long as an idle one.
    testTimeout: 600_000,
    hookTimeout: 600_000,
    // Tests compute with all cores themselves: three at once take longer than two.
    maxWorkers: 2,
    projects: [
      {
        extends: true,
        test: {
          name: 'together',
          include: ['packages/*/src/**/*.test.ts', 'tests/**/*.test.ts'],
          exclude: ['**/*.slow.test.ts', '**/*.webgpu.test.ts', '**/node_modules/**', ...apart],
          // Nothing here keeps state outside its objects, so files share the modules of a process, which is a tenth faster.
          isolate: false,
        },
      },
      { extends: true, test: { name: 'apart', include: apart } },
    ],
  },
});
