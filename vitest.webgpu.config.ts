import { readdirSync, readFileSync } from 'node:fs';
import { defineConfig } from 'vitest/config';

/** Files that check the golden values of whatever devices they are given, or WebGPU alone. */
const include = readdirSync('tests')
  .map((name) => `tests/${name}`)
  .filter((file) => file.endsWith('.test.ts'))
  .filter((file) =>
    /import \{[^}]*\b(devices|webgpuMissing)\b[^}]*\} from '\.\/devices'/.test(readFileSync(file, 'utf8')),
  );

/** Golden values on WebGPU: `npm run test:webgpu`. */
export default defineConfig({
  test: {
    env: { ORT_DISABLE_TELEMETRY: '1', DETAILFLOW_TEST_DEVICE: 'webgpu' },
    include,
    testTimeout: 1_800_000,
    hookTimeout: 1_800_000,
    maxWorkers: 2,
  },
});
