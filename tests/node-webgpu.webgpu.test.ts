import { readdirSync, readFileSync } from 'node:fs';
import { createNodeBackend } from '@detailflow/backend-node';
import { type Backend, matmul, sin, Tensor, trace } from '@detailflow/core';
import {
  checkConformance,
  checkSharedState,
  checkStateExtents,
  checkStateWindows,
  conformanceCases,
  gradientCases,
} from '@detailflow/core/conformance';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { webgpuMissing } from './devices';

describe.skipIf(webgpuMissing !== undefined)("the conformance suite on ONNX Runtime's WebGPU", () => {
  let backend: Backend;
  beforeAll(async () => {
    backend = await createNodeBackend({ device: 'webgpu' });
  });
  afterAll(() => backend?.close());

  test('executables share a state of the backend', () => checkSharedState(backend));

  test('states have windows', () => checkStateWindows(backend));

  test('states grow and shrink', () => checkStateExtents(backend));

  test.each([...conformanceCases, ...gradientCases])('$name', async (one) => {
    await checkConformance(backend, one);
  });
});

/** Processes of ONNX Runtime that this one has started. */
const runtimes = (): number[] =>
  readdirSync('/proc')
    .filter((id) => /^\d+$/.test(id))
    .filter((id) => {
      try {
        const parent = readFileSync(`/proc/${id}/stat`, 'utf8').split(') ')[1].split(' ')[1];
        return (
          parent === `${process.pid}` &&
          readFileSync(`/proc/${id}/cmdline`, 'utf8').includes('worker-process.js')
        );
      } catch {
        return false; // it is gone
      }
    })
    .map(Number);

test.skipIf(webgpuMissing !== undefined || process.platform !== 'linux')(
  'a driver that crashes takes its backend with it, and nothing else',
  async () => {
    const x = new Tensor('float32', new Float32Array(256 * 256).fill(1 / 256), [256, 256]);
    const powers = (count: number) =>
      trace((g) => {
        const input = g.input('x', 'f32', [256, 256]);
        let y = sin(input);
        for (let i = 0; i < count; i++) y = matmul(y, input);
        return { y };
      });
    const open = async (count: number) => {
      const backend = await createNodeBackend({ device: 'webgpu' });
      return { backend, executable: await backend.compile(powers(count), new Map()) };
    };
    const before = runtimes();
    const { backend, executable } = await open(200);
    const [child, ...others] = runtimes().filter((id) => !before.includes(id));
    expect(others).toEqual([]);
    const run = executable.run({ x });
    process.kill(child, 'SIGSEGV');
    const lost = {
      code: 'device-lost',
      message: expect.stringMatching(/^the device "webgpu" is lost: .*SIGSEGV.*; .*choose device "cpu"$/),
    };
    await expect(run).rejects.toMatchObject(lost);
    await expect(executable.run({ x })).rejects.toMatchObject(lost);
    await expect(backend.compile(powers(1), new Map())).rejects.toMatchObject(lost);
    await executable.dispose();
    await backend.close();

    const again = await open(1);
    const { y } = await again.executable.run({ x });
    expect(y.data[0]).toBeCloseTo(Math.sin(1 / 256), 6);
    await again.backend.close();
  },
);
