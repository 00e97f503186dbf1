import path from 'node:path';
import { createNodeBackend } from '@detailflow/backend-node';
import { load } from 'detailflow';
import { test } from 'vitest';
test('x', async () => {
  const backend = await createNodeBackend();
  for (const name of ['tests/fixtures/fashion-ref', 'packages/model-fashion-32/model', 'packages/model-emoji-64/model', 'tests/fixtures/golden/A', 'tests/fixtures/golden/B']) {
    const exact: any = await load(path.join('/work/main', name), { backend }); const rounded: any = await load(path.join('/work/main', name), { backend, dtype: 'q8' });
    const labels = Array.from({ length: 20 }, (_, i) => i % exact.tokenModel.classes);
    let codes: any; for await (const step of exact.generate({ labels, seed: 3, cfg: 1.5 })) codes = await step.tokens();
    const [a, b] = [await exact.tokenizer.decode(codes), await rounded.tokenizer.decode(codes)];
    let worst = 0, sum = 0, min=9, max=-9; for (let i = 0; i < a.data.length; i++) { const d = Math.abs(a.data[i] - b.data[i]); worst = Math.max(worst, d); sum += d * d; min=Math.min(min,a.data[i]);max=Math.max(max,a.data[i]); }
    console.log(name, 'PSNR', (10 * Math.log10(4 / (sum / a.data.length))).toFixed(1), 'worst', worst.toFixed(4), min.toFixed(2), max.toFixed(2));
    await exact.dispose(); await rounded.dispose();
  }
  await backend.close();
}, 200000);
