// Where the time of a picture goes: by operator and kind of step, with shares of the peaks that are measured in the same run.
//   npm run bench -- profile [--model DIR | --tokens 128|256|512] [--dtype fp32,q8,q4] [--batch N] [--rounds N] [--threads N] [--top N] [--json FILE]
// The profiler itself slows small operators down; shares are of the time of a run of the graph.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { createNodeBackend } from '@detailflow/backend-node';
import { matmul, Tensor, trace, weightFromArray } from '@detailflow/core';
import { matrixFormats } from '@detailflow/onnx';
import { load, openFamilyModel } from 'detailflow';
import { matmulPeak } from './matmul-peak.mjs';
import { profileTable } from './profile-table.mjs';

const { values } = parseArgs({
  options: {
    model: { type: 'string' },
    tokens: { type: 'string', default: '128' },
    dtype: { type: 'string', default: 'fp32,q8,q4' },
    batch: { type: 'string', default: '1' },
    rounds: { type: 'string', default: '3' },
    threads: { type: 'string', default: String(availableParallelism()) },
    top: { type: 'string', default: '8' },
    json: { type: 'string' },
  },
});
const source = values.model ?? fullSize();
const [batch, rounds, threads] = [values.batch, values.rounds, values.threads].map(Number);
const results = [];
for (const dtype of values.dtype.split(',')) {
  const result = await profile(dtype);
  print(result);
  results.push(result);
}
if (values.json) writeFileSync(values.json, `${JSON.stringify(results, null, 2)}\n`);

/** The checkpoint of full size and random weights that the other benches use. */
function fullSize() {
  const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
  const folder = path.join(root, 'runs', `full-${values.tokens}-released`);
  if (!existsSync(path.join(folder, 'ar', 'checkpoints', '0000000.pt'))) {
    console.error('making the checkpoint ...');
    const script = path.join(root, 'tools', 'make-checkpoint.mjs');
    const args = [script, folder, '--tokens', values.tokens, '--decoder', 'released'];
    execFileSync(process.execPath, args, { stdio: ['ignore', 2, 2] });
  }
  return folder;
}

async function profile(dtype) {
  const plain = await createNodeBackend({ threads });
  const peaks = { gflops: await matmulPeak(plain), gigabytes: await bandwidthPeak(plain) };
  await plain.close();
  const folder = mkdtempSync(path.join(tmpdir(), 'detailflow-profile-'));
  try {
    const backend = await createNodeBackend({ threads, profile: path.join(folder, 'p') });
    const model = await load(source, { backend, dtype });
    const { schedule, classes } = model.tokenModel;
    const labels = Array.from({ length: batch }, (_, i) => i % Math.max(1, classes));
    for (let seed = 0; seed <= rounds; seed++) {
      for await (const step of model.generate({ labels, seed })) {
        if (step.count === model.tokenizer.tokens) await step.pixels();
      }
    }
    await model.dispose();
    await backend.close();
    const bitsOf = await bitsOfNodes(dtype);
    const steps = schedule.length * (rounds + 1);
    const kinds = readdirSync(folder).flatMap((file) => {
      const events = JSON.parse(readFileSync(path.join(folder, file), 'utf8'));
      // The first picture warms up. The transformer is the graph that runs once a step.
      const kindOf = (i, runs) => {
        if (i < runs / (rounds + 1)) return undefined;
        const step = i % schedule.length;
        return runs === steps
          ? `${step > 0 && schedule[step] > schedule[step - 1] ? 'first ' : ''}step of ${schedule[step]}`
          : runs === rounds + 1
            ? 'decoder'
            : 'others';
      };
      return profileTable(events, { kindOf, bitsOf });
    });
    for (const { operators } of kinds) {
      for (const one of operators) {
        one.shareOfFlops = one.flops / one.ms / 1e6 / peaks.gflops;
        one.shareOfBandwidth = one.bytes / one.ms / 1e6 / peaks.gigabytes;
      }
    }
    return { dtype, batch, threads, peaks, kinds };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** GB/s at which a product of one row reads a matrix of 64 MiB: the best of 8. */
async function bandwidthPeak(backend) {
  const [out, columns] = [4096, 4096];
  const weight = weightFromArray('w', [out, columns], new Float32Array(out * columns).fill(0.5));
  const graph = trace((g) => ({
    y: matmul(g.input('x', 'f32', [1, columns]), g.weight('w', [out, columns]), { transposeB: true }),
  }));
  const executable = await backend.compile(graph, new Map([['w', weight]]));
  const x = new Tensor('float32', new Float32Array(columns).fill(1), [1, columns]);
  let best = Number.POSITIVE_INFINITY;
  for (let run = 0; run < 8; run++) {
    const started = performance.now();
    await executable.run({ x });
    best = Math.min(best, performance.now() - started);
  }
  await executable.dispose();
  return (4 * out * columns) / best / 1e6;
}

/** Nodes bear the names of the modules whose weight they read. */
async function bitsOfNodes(dtype) {
  if (dtype === 'fp32') return () => 32;
  const opened = await openFamilyModel(source);
  // The decoder keeps 8 bits.
  const formats = [
    ...matrixFormats(opened.graphs.step().graph, dtype),
    ...matrixFormats(opened.graphs.decoder().graph, 'q8'),
  ];
  await opened.close();
  const bits = new Map(formats.map(([name, format]) => [name.replace(/\.\w+$/, ''), format.bits]));
  return (node) => {
    const found = bits.get(node.split('/')[1]);
    if (found === undefined) throw new Error(`the node ${node} reads no matrix that is known`);
    return found;
  };
}

function print({ dtype, peaks, kinds }) {
  const percent = (share) => `${(100 * share).toFixed(1)} %`;
  console.log(
    `\n${dtype}, batch ${batch}, ${threads} threads; peaks here: ${peaks.gflops.toFixed(0)} GFLOP/s, ${peaks.gigabytes.toFixed(1)} GB/s`,
  );
  console.log('| step | operator | calls | ms | time | of the flops peak | of the bandwidth peak |');
  console.log('|---|---|---|---|---|---|---|');
  for (const { kind, ms, outsideMs, operators } of kinds) {
    const row = (...cells) => console.log(`| ${cells.join(' | ')} |`);
    row(
      kind,
      'all',
      operators.reduce((sum, { calls }) => sum + calls, 0),
      ms.toFixed(2),
      '100 %',
      '',
      '',
    );
    for (const one of operators.slice(0, Number(values.top))) {
      const flops = one.flops > 0 ? percent(one.shareOfFlops) : '';
      row(
        '',
        one.name,
        one.calls,
        one.ms.toFixed(2),
        percent(one.share),
        flops,
        percent(one.shareOfBandwidth),
      );
    }
    const rest = operators.slice(Number(values.top)).reduce((sum, one) => sum + one.ms, 0);
    if (rest > 0) row('', 'others', '', rest.toFixed(2), percent(rest / ms), '', '');
    row('', 'between operators', '', outsideMs.toFixed(2), percent(outsideMs / ms), '', '');
  }
}
