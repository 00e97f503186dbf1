import { readFloat32 } from '@detailflow/core';
import { Gpu } from './gpu';
import { Kernel } from './kernel';

/** How arrays may be read: one by one and by fours. */
const kernels = [
  new Kernel({
    inputs: ['X'],
    uniforms: [],
    code: 'fn main(index: i32) { if (index < uniforms.size) { result[index] = X(index); } }',
  }),
  new Kernel({
    inputs: ['X'],
    byFours: ['X'],
    uniforms: [],
    code: `fn main(index: i32) {
  if (4 * index < uniforms.size) {
    let four = X(index);
    for (var i = 0; i < 4; i++) { result[4 * index + i] = four[i]; }
  }
}`,
  }),
];

/**
 * Whether a device has numbers of 16 bits (`shader-f16`) and reads every finite half as the number that it is: it may take small
 * ones, below 2^-14, for zero.
 */
export async function readsHalves(device: GPUDevice, info: GPUAdapterInfo | undefined): Promise<boolean> {
  if (!device.features.has('shader-f16')) return false;
  const halves = Uint16Array.from({ length: 1 << 16 }, (_, bits) => bits).filter(
    (bits) => (bits & 0x7c00) !== 0x7c00,
  );
  const expected = await readFloat32({
    ...{ name: 'halves', shape: [halves.length], dtype: 'f16' },
    read: async () => new Uint8Array(halves.buffer),
  });
  device.pushErrorScope('validation');
  const gpu = new Gpu(device, info, { halves: true });
  try {
    const size = halves.length;
    const input = gpu.upload(halves);
    const results = kernels.map((kernel) => {
      const result = gpu.allocate(size, 'float32');
      gpu.launch(gpu.prepare(kernel, { types: ['float32', 'float16'], size, numbers: [] }), [result, input]);
      return result;
    });
    const wanted = new Uint32Array(expected.buffer);
    const found = await gpu.read(results);
    return found.every((values) =>
      new Uint32Array(values.buffer, values.byteOffset, size).every((bits, i) => bits === wanted[i]),
    );
  } finally {
    gpu.dispose();
    await device.popErrorScope();
  }
}
