import { checkConformance, conformanceCases } from '@detailflow/core/conformance';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { provideDriver } from '../../../tools/webgpu/driver.mjs';
import { createWebGPUBackend, type WebGPUBackend } from './create-webgpu-backend';
import { gathering, THREADS } from './kernels/gathering';

const missing = provideDriver();
if (missing) console.warn(`WebGPU IS NOT TESTED: ${missing}`);

const SUBGROUPS = 'subgroups' as GPUFeatureName;
/** Cases whose kernels add up or compare over a workgroup. */
const reductions = conformanceCases.filter(({ name }) =>
  /softmax|norm|deviation|standardise|attention|sum|max|mean|normalise/i.test(name),
);

describe.skipIf(missing !== undefined)('sums and maxima of a workgroup', () => {
  let probe: WebGPUBackend;
  let hasSubgroups = false;
  /** Devices with the feature and without. */
  const opened: { device: GPUDevice; backend: WebGPUBackend; code: string[] }[] = [];

  async function open(requiredFeatures: GPUFeatureName[]) {
    const adapter = (await navigator.gpu.requestAdapter()) as GPUAdapter;
    const device = await adapter.requestDevice({ requiredFeatures });
    const code: string[] = [];
    const make = device.createShaderModule.bind(device);
    device.createShaderModule = (descriptor) => {
      code.push(descriptor.code);
      return make(descriptor);
    };
    const one = { device, backend: await createWebGPUBackend({ device }), code };
    opened.push(one);
    return one;
  }

  beforeAll(async () => {
    probe = await createWebGPUBackend();
    const adapter = (await navigator.gpu.requestAdapter()) as GPUAdapter;
    hasSubgroups = adapter.features.has(SUBGROUPS);
    if (!hasSubgroups) console.warn('SUBGROUPS ARE NOT TESTED: the adapter has none');
  });
  afterAll(async () => {
    for (const { backend, device } of opened) {
      await backend.close();
      device.destroy();
    }
    await probe?.close();
  });

  test('a device that is opened here has what its adapter has', () => {
    expect(probe.device.features.has(SUBGROUPS)).toBe(hasSubgroups);
  });

  test.for([
    { name: 'with', features: [SUBGROUPS] },
    { name: 'without', features: [] },
  ])('$name subgroups: the conformance suite', async ({ features }, { skip }) => {
    skip(features.length > 0 && !hasSubgroups, 'the adapter has no subgroups');
    const { backend, code } = await open(features);
    expect(reductions.length).toBeGreaterThan(20);
    for (const one of reductions) await checkConformance(backend, one);
    const gathers = code.filter((text) => text.includes('fn sumOfAll'));
    expect(gathers.length).toBeGreaterThan(5);
    expect(gathers.filter((text) => text.startsWith('enable subgroups;'))).toHaveLength(
      features.length > 0 ? gathers.length : 0,
    );
    // Only what gathers asks for them.
    expect(code.filter((text) => text.includes('subgroup'))).toHaveLength(
      features.length > 0 ? gathers.length : 0,
    );
  });

  /** Sums and maxima as each thread finds them, where subgroups are said to be of some size. */
  async function gathered(device: GPUDevice, isBySubgroups: boolean, size: string, values: Float32Array) {
    const module = device.createShaderModule({
      code: `${isBySubgroups ? 'enable subgroups;' : ''}
@group(0) @binding(0) var<storage, read_write> result: array<f32>;
@group(0) @binding(1) var<storage, read> X: array<f32>;
${gathering(isBySubgroups)}
@compute @workgroup_size(${THREADS})
fn start(@builtin(local_invocation_index) index: u32 ${isBySubgroups ? ', @builtin(subgroup_size) together: u32' : ''}) {
  let lane = i32(index);
  ${isBySubgroups ? `findBlock(lane, ${size});` : ''}
  result[lane] = sumOfAll(lane, X[lane]);
  result[${THREADS} + lane] = largestOfAll(lane, X[lane]);
}`,
    });
    const pipeline = device.createComputePipeline({
      layout: 'auto',
      compute: { module, entryPoint: 'start' },
    });
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
    const [result, x] = [8 * THREADS, 4 * THREADS].map((bytes) =>
      device.createBuffer({ size: bytes, usage }),
    );
    const staging = device.createBuffer({
      size: 8 * THREADS,
      usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST,
    });
    device.queue.writeBuffer(x, 0, values as Float32Array<ArrayBuffer>);
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(
      0,
      device.createBindGroup({
        layout: pipeline.getBindGroupLayout(0),
        entries: [result, x].map((buffer, binding) => ({ binding, resource: { buffer } })),
      }),
    );
    pass.dispatchWorkgroups(1);
    pass.end();
    encoder.copyBufferToBuffer(result, 0, staging, 0, 8 * THREADS);
    device.queue.submit([encoder.finish()]);
    await staging.mapAsync(GPUMapMode.READ);
    const found = new Float32Array(staging.getMappedRange().slice(0));
    for (const buffer of [result, x, staging]) buffer.destroy();
    return found;
  }

  test('are the same for every thread and right, however threads run together', async () => {
    const { device } = await open(hasSubgroups ? [SUBGROUPS] : []);
    // Whole numbers, whose sums are exact in every order; the largest one in turn at every place.
    const sizes = ['i32(together)', '1', '2', '4', '8', '16', '32', '64', '128'];
    const mixed = [
      'select(4, 8, lane < 32)',
      'select(i32(together), 64, lane >= 16)',
      'select(2, 4, lane < 8)',
    ];
    for (const [i, size] of (hasSubgroups ? [...sizes, ...mixed] : ['']).entries()) {
      for (const isBySubgroups of hasSubgroups ? [true, false] : [false]) {
        const values = Float32Array.from({ length: THREADS }, (_, k) => ((k * 37 + 11 * i) % 64) - 90);
        const found = await gathered(device, isBySubgroups, size, values);
        const total = values.reduce((a, b) => a + b, 0);
        const wanted = [...new Array(THREADS).fill(total), ...new Array(THREADS).fill(Math.max(...values))];
        expect([...found], size).toEqual(wanted);
      }
    }
  });
});
