// Draws a handbag and keeps an early preview. Run from the repository root: npx tsx examples/generate.ts [FOLDER]
import { mkdir, writeFile } from 'node:fs/promises';
import { load, upscaleNearest } from 'detailflow';

const out = process.argv[2] ?? 'out/generate';
await mkdir(out, { recursive: true });
const model = await load('@detailflow/model-fashion-32');
for await (const step of model.generate({ labels: ['bag'], seed: 3, cfg: 2 })) {
  if (step.count !== 8 && step.count !== step.total) continue; // nothing is drawn unless asked for
  const picture = upscaleNearest(await step.image(), 8);
  const file = `${out}/${step.count === step.total ? 'final' : 'preview'}.png`;
  await writeFile(file, await picture.toPng());
  console.log(
    `${file}: ${step.count} of ${step.total} tokens, ${step.resolution} x ${step.resolution} pixels`,
  );
}
await model.dispose();
