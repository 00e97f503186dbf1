import { createNodeBackend } from '@detailflow/backend-node';
import type { Backend } from '@detailflow/core';
import {
  checkConformance,
  checkSharedState,
  checkStateExtents,
  checkStateWindows,
  conformanceCases,
  gradientCases,
} from '@detailflow/core/conformance';
import { afterAll, beforeAll, test } from 'vitest';

let backend: Backend;
beforeAll(async () => {
  backend = await createNodeBackend({ device: 'cpu', threads: 1 });
});
afterAll(() => backend.close());

test('executables share a state of the backend', () => checkSharedState(backend));

test('states have windows', () => checkStateWindows(backend));

test('states grow and shrink', () => checkStateExtents(backend));

test.each([...conformanceCases, ...gradientCases])('$name', async (one) => {
  await checkConformance(backend, one);
});
