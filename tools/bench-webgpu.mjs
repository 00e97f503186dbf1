// Times the model in the box on WebGPU, beside the CPU: milliseconds by step, kernels and submissions by
// step, microseconds of the host by kernel, read-backs by picture.
// The host's share is what recording and submitting took, whatever the adapter does meanwhile.
//   node tools/bench-webgpu.mjs [--batch 1,8] [--dtype fp16,fp32] [--rounds 3] [--json FILE]
// fp16 is how the model is stored, and how WebGPU holds it without being asked; fp32 widens its matrices, for comparison. Weights are
// those of the graphs of a generation, as they lie on the device. A table at the end sets the dtypes side by side.
// Prints the adapter first: figures of a software adapter say nothing about graphics cards.
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { drawGraph, parseTokenModelConfig, stepGraph } from '@detailflow/ar-model';
import { createNodeBackend } from '@detailflow/backend-node';
import { createWebGPUBackend } from '@detailflow/backend-webgpu';
import { expandComposites } from '@detailflow/core';
import { modelUrl } from '@detailflow/model-fashion-32';
import { load } from 'detailflow';
import { matmulPeak } from './matmul-peak.mjs';
import { provideDriver } from './webgpu/driver.mjs';

const { values } = parseArgs({
  options: {
    batch: { type: 'string', default: '1,8' },
    dtype: { type: 'string', default: 'fp16,fp32' },
    rounds: { type: 'string', default: '3' },
    json: { type: 'string' },
  },
});
const missing = provideDriver();
if (missing) {
  console.error(missing);
  process.exit(1);
}
const median = (list) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)];
const rounds = Number(values.rounds);
const results = [];

const gpu = await createWebGPUBackend();
const { vendor, architecture, description } = gpu.device.adapterInfo ?? {};
const adapter = [vendor, architecture, description].filter(Boolean).join(' ') || 'unknown';
console.log(`adapter: ${adapter}; matrix product peak ${(await matmulPeak(gpu)).toFixed(2)} GFLOP/s`);
console.log(`subgroups: ${gpu.device.features.has('subgroups') ? 'yes' : 'no'}`);
const dtypes = values.dtype.split(',');
for (const dtype of dtypes) {
  for (const onDevice of [true, false]) await measure('webgpu', gpu, { onDevice, dtype });
}
await gpu.close();
const cpu = await createNodeBackend();
await measure('cpu', cpu, { onDevice: false });
await cpu.close();
printTable();
if (values.json) writeFileSync(values.json, `${JSON.stringify({ adapter, results }, null, 2)}\n`);

async function measure(name, backend, { onDevice, dtype }) {
  const before = backend.memory?.().used;
  const model = await load(modelUrl, { backend, dtype });
  let weightsMiB;
  if (onDevice) {
    const config = parseTokenModelConfig(model.card.ar.config);
    const kernels = (graph) =>
      expandComposites(graph).nodes.filter(
        ({ op }) => !['input', 'weight', 'state', 'constant', 'reshape'].includes(op),
      ).length;
    const draw = drawGraph(config, { isGuided: true, topK: 0, isGreedy: false });
    console.log(`operations of a step: ${kernels(stepGraph(config))}, with the draw ${kernels(draw)}`);
  }
  for (const batch of values.batch.split(',').map(Number)) {
    const labels = Array.from({ length: batch }, (_, i) => i % 10);
    for await (const step of model.generate({ labels, cfg: 2, onDevice })) await step.tokens(); // makes the kernels
    // What stays when a generation is over is what it was compiled from.
    if (before !== undefined) weightsMiB ??= (backend.memory().used - before) / 2 ** 20;
    const times = [];
    let [counts, steps] = [undefined, 0];
    for (let round = 0; round < rounds; round++) {
      const before = backend.counts;
      const started = performance.now();
      let last = before;
      const perStep = { dispatches: [], submissions: [], microseconds: [] };
      steps = 0;
      for await (const step of model.generate({ labels, cfg: 2, seed: round, onDevice })) {
        if (before) {
          const now = backend.counts;
          const dispatches = now.dispatches - last.dispatches;
          perStep.dispatches.push(dispatches);
          perStep.submissions.push(now.submissions - last.submissions);
          perStep.microseconds.push((1000 * (now.recordingMs - last.recordingMs)) / dispatches);
          last = now;
        }
        steps++;
        if (step.count === step.total) await step.tokens();
      }
      times.push(performance.now() - started);
      if (before) {
        const reads = backend.counts.reads - before.reads;
        counts = {
          dispatchesPerStep: median(perStep.dispatches),
          submissionsPerStep: median(perStep.submissions),
          hostMicrosecondsPerKernel: median(perStep.microseconds),
          readsPerPicture: reads / batch,
        };
      }
    }
    const seconds = median(times) / 1000;
    const found = {
      name,
      dtype,
      onDevice,
      batch,
      secondsPerPicture: seconds / batch,
      msPerStep: (1000 * seconds) / steps,
      weightsMiB,
      ...counts,
    };
    results.push(found);
    console.log(
      `${name}${dtype ? ` ${dtype}` : ''}${onDevice ? ', tokens chosen on the device' : ''}, batch ${batch}: ${found.secondsPerPicture.toFixed(3)} s/picture, ` +
        `${found.msPerStep.toFixed(1)} ms/step` +
        (counts
          ? `, ${counts.dispatchesPerStep} kernels/step, ${counts.submissionsPerStep} submissions/step, ` +
            `${counts.hostMicrosecondsPerKernel.toFixed(1)} microseconds of the host/kernel, ${counts.readsPerPicture.toFixed(2)} read-backs/picture, weights ${weightsMiB.toFixed(1)} MiB`
          : ''),
    );
  }
  await model.dispose();
}

/** Milliseconds a step and weights on the device, a row for each batch and way of choosing tokens, columns for the dtypes. */
function printTable() {
  const own = results.filter(({ name }) => name === 'webgpu');
  console.log(
    `\n| batch | tokens chosen | ${dtypes.map((dtype) => `${dtype}: ms/step, weights`).join(' | ')} |`,
  );
  console.log(`|---|---|${dtypes.map(() => '---|').join('')}`);
  for (const { batch, onDevice } of own.filter(({ dtype }) => dtype === dtypes[0])) {
    const cells = dtypes.map((dtype) => {
      const { msPerStep, weightsMiB } = own.find(
        (one) => one.dtype === dtype && one.batch === batch && one.onDevice === onDevice,
      );
      return `${msPerStep.toFixed(1)}, ${weightsMiB.toFixed(1)} MiB`;
    });
    console.log(`| ${batch} | ${onDevice ? 'on the device' : 'here'} | ${cells.join(' | ')} |`);
  }
}
