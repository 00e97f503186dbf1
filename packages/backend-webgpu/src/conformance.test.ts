import {
  checkConformance,
  checkSharedState,
  conformanceCases,
  gradientCases,
} from '@detailflow/core/conformance';
import { afterAll, beforeAll, describe, test } from 'vitest';
import { provideDriver } from '../../../tools/webgpu/driver.mjs';
import { createWebGPUBackend, type WebGPUBackend } from './create-webgpu-backend';

const missing = provideDriver();
if (missing) console.warn(`WebGPU IS NOT TESTED: ${missing}`);

describe.skipIf(missing !== undefined)('the conformance suite on WebGPU', () => {
  let backend: WebGPUBackend;
  beforeAll(async () => {
    backend = await createWebGPUBackend();
  });
  afterAll(() => backend?.close());

  test('executables share a state of the backend', () => checkSharedState(backend));

  test.each([...conformanceCases, ...gradientCases])('$name', async (one) => {
    await checkConformance(backend, one);
  });
});
