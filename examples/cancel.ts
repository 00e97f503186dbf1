// Stops a generation half-way, as a "cancel" button would, and shows that it stops at once and gives its memory back.
// Run from the repository root: npx tsx examples/cancel.ts [FOLDER]
import { mkdir, writeFile } from 'node:fs/promises';
import { modelUrl } from '@detailflow/model-fashion-32';
import { load, upscaleNearest } from 'detailflow';

const out = process.argv[2] ?? 'out/cancel';
await mkdir(out, { recursive: true });
const model = await load(modelUrl);
await draw([9]); // the first use loads the runtime
const idle = memory();

const controller = new AbortController();
const labels = Array.from({ length: 400 }, (_, i) => i % 10); // 400 pictures at once
let tokens = 0;
try {
  for await (const step of model.generate({ labels, cfg: 2, signal: controller.signal })) {
    tokens = step.count;
    if (tokens < 12) continue;
    const preview = await step.image(9); // what there is can still be drawn
    await writeFile(`${out}/preview.png`, await upscaleNearest(preview, 8).toPng());
    console.log(`${step.count} of ${step.total} tokens, ${memory() - idle} MB in use: cancelling`);
    controller.abort();
  }
} catch (error) {
  console.log(`stopped after ${tokens} of ${model.tokenizer.tokens} tokens`);
  if (error !== controller.signal.reason) throw error;
}

console.log(`the model still works: ${await draw([9])} tokens`);
await model.dispose();
console.log(`${memory() - idle} MB in use after closing it`);

/** Draws to the end and returns the number of tokens. */
async function draw(labels: number[]): Promise<number> {
  let tokens = 0;
  for await (const step of model.generate({ labels, cfg: 2 })) tokens = step.count;
  return tokens;
}

/** Megabytes of this process, the runtime's included. */
function memory(): number {
  return Math.round(process.memoryUsage().rss / 2 ** 20);
}
