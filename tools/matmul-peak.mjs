import { matmul, Tensor, trace, weightFromArray } from '@detailflow/core';

/** GFLOP/s of a product of two 1024 x 1024 matrices on a backend: the best of 12. */
export async function matmulPeak(backend) {
  const side = 1024;
  const data = Float32Array.from({ length: side * side }, (_, i) => Math.sin(i));
  const graph = trace((g) => ({ y: matmul(g.input('x', 'f32', [side, side]), g.weight('w', [side, side])) }));
  const weights = new Map([['w', weightFromArray('w', [side, side], data)]]);
  const executable = await backend.compile(graph, weights);
  const x = new Tensor('float32', data, [side, side]);
  const times = [];
  for (let run = 0; run < 12; run++) {
    const started = performance.now();
    await executable.run({ x });
    times.push(performance.now() - started);
  }
  await executable.dispose();
  return (2 * side ** 3) / Math.min(...times) / 1e6;
}
