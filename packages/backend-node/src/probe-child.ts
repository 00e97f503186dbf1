import { matmul, Tensor, trace } from '@detailflow/core';
import { toOnnx } from '@detailflow/onnx';
import ort from 'onnxruntime-node';
import type { ProbeResult } from './probe';

/** Child process of `probeDevice`: runs one product of matrices on the device and on the CPU. */

const side = 768;
const graph = trace((g) => ({
  c: matmul(g.input('a', 'f32', [side, side]), g.input('b', 'f32', [side, side])),
}));
const model = toOnnx(graph, {
  placeWeight: () => {
    throw new Error('the probe has no weights');
  },
}).bytes;

async function timeOn(device: string): Promise<number> {
  const session = await ort.InferenceSession.create(model, {
    executionProviders: [device],
    logSeverityLevel: 3,
  });
  const matrix = new Tensor('float32', new Float32Array(side * side).fill(1 / side), [side, side]);
  const times: number[] = [];
  for (let run = 0; run < 5; run++) {
    const started = performance.now();
    const { c } = await session.run({ a: matrix as ort.Tensor, b: matrix as ort.Tensor });
    times.push(performance.now() - started);
    if (Math.abs((c.data as Float32Array)[0] - 1 / side) > 1e-6)
      throw new Error('the device computes wrong numbers');
  }
  return Math.min(...times);
}

let result: ProbeResult;
try {
  const device = await timeOn(process.argv[2]);
  result = { usable: true, relativeTime: device / (await timeOn('cpu')) };
} catch (error) {
  result = { usable: false, reason: error instanceof Error ? error.message : String(error) };
}
console.log(JSON.stringify(result));
