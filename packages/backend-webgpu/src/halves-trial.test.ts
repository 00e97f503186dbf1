import { linear, Tensor, trace, type Weight } from '@detailflow/core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { provideDriver } from '../../../tools/webgpu/driver.mjs';
import { createWebGPUBackend, type WebGPUBackend } from './create-webgpu-backend';
import { readsHalves } from './halves-trial';

const missing = provideDriver();
if (missing) console.warn(`WebGPU IS NOT TESTED: ${missing}`);

const HALVES = 'shader-f16' as GPUFeatureName;

describe.skipIf(missing !== undefined)('halves that the device reads by itself', () => {
  let probe: WebGPUBackend;
  let hasHalves = false;
  const devices: GPUDevice[] = [];

  /** A device, and the code of its kernels, which may be changed on the way. */
  async function open(requiredFeatures: GPUFeatureName[], change = (code: string) => code) {
    const adapter = (await navigator.gpu.requestAdapter()) as GPUAdapter;
    const device = await adapter.requestDevice({ requiredFeatures });
    const code: string[] = [];
    const make = device.createShaderModule.bind(device);
    device.createShaderModule = (descriptor) => {
      code.push(descriptor.code);
      return make({ ...descriptor, code: change(descriptor.code) });
    };
    devices.push(device);
    return { device, code };
  }

  beforeAll(async () => {
    probe = await createWebGPUBackend();
    hasHalves = ((await navigator.gpu.requestAdapter()) as GPUAdapter).features.has(HALVES);
    if (!hasHalves) console.warn('HALVES OF THE DEVICE ARE NOT TESTED: the adapter has none');
  });
  afterAll(async () => {
    await probe?.close();
    for (const device of devices) device.destroy();
  });

  const dims = [64, 32];
  const graph = trace((g) => ({ y: linear(g.input('x', 'f32', [3, 32]), g.weight('w', dims)) }));
  /** Halves of all sizes, small ones among them. */
  const weight: Weight = {
    ...{ name: 'w', shape: dims, dtype: 'f16' },
    read: async () =>
      new Uint8Array(
        Uint16Array.from({ length: 2048 }, (_, i) => ((i * 6571) % 30000) + 32768 * (i % 2)).buffer,
      ),
  };
  const x = new Tensor(
    'float32',
    Float32Array.from({ length: 96 }, (_, i) => Math.sin(i)),
    [3, 32],
  );

  async function product(device: GPUDevice): Promise<Float32Array> {
    await using backend = await createWebGPUBackend({ device });
    const before = backend.memory().used;
    const executable = await backend.compile(graph, new Map([['w', weight]]));
    expect(backend.memory().used - before).toBe(4096);
    const { y } = await executable.run({ x });
    await executable.dispose();
    return y.data as Float32Array;
  }

  test('a device that is opened here has what its adapter has', () => {
    expect(probe.device.features.has(HALVES)).toBe(hasHalves);
  });

  test('one without them is not tried, and its kernels read bits', async () => {
    const { device, code } = await open([]);
    expect(await readsHalves(device, undefined)).toBe(false);
    expect(code).toEqual([]);
    await product(device);
    expect(code.filter((text) => text.includes('fn half('))).toHaveLength(1);
    expect(code.filter((text) => text.includes('f16'))).toEqual([]);
  });

  test('one that reads all of them exactly may, and the bits of a product are the same', async ({ skip }) => {
    skip(!hasHalves, 'the adapter has no shader-f16');
    const { device, code } = await open([HALVES]);
    expect(await readsHalves(device, undefined)).toBe(true);
    const tried = code.length;
    const found = await product(device);
    const made = code.slice(tried).filter((text) => text.includes('enable f16;'));
    expect(made.length).toBeGreaterThan(2); // those of the trial, and the product
    expect(code.filter((text) => text.includes('fn half('))).toEqual([]);
    expect(found).toEqual(await product((await open([])).device));
  });

  test.for<[string, (value: string) => string]>([
    ['takes small ones for zero', (value: string) => `select(${value}, 0.0, abs(${value}) < 6.1e-5)`],
    ['gives nothing for a shader', () => 'not a shader'],
  ])('one that %s may not', async ([, worse], { skip }) => {
    skip(!hasHalves, 'the adapter has no shader-f16');
    const { device, code } = await open([HALVES], (text) =>
      text.replace(/return (f32\(\w+\[i\]\));/, (_all, value) => `return ${worse(value)};`),
    );
    expect(await readsHalves(device, undefined)).toBe(false);
    const tried = code.length;
    await product(device);
    expect(code.slice(tried).filter((text) => text.includes('fn half('))).toHaveLength(1);
  });
});
