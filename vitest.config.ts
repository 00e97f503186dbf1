import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    // Tests that run ONNX Runtime themselves leave nothing under the home folder either.
    env: { ORT_DISABLE_TELEMETRY: '1' },
    include: ['packages/*/src/**/*.test.ts', 'tests/**/*.test.ts'],
    exclude: ['**/*.slow.test.ts', '**/*.webgpu.test.ts', '**/node_modules/**'],
    // Only what hangs: a busy machine may take ten times as long as an idle one.
    testTimeout: 600_000,
    hookTimeout: 600_000,
    // Tests compute with all cores themselves: three at once take longer than two.
    maxWorkers: 2,
  },
});
