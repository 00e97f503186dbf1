import path from 'node:path';
import { createNodeBackend } from '@detailflow/backend-node';
import { softmax } from '@detailflow/sampler';
import { load } from 'detailflow';
import { test } from 'vitest';
const root = '/work/main';
async function logitsAlong(model: any, labels: number[], codes: Int32Array) {
  const { tokenModel } = model; const { tokens, vocabularySize } = tokenModel;
  const session = await tokenModel.begin(labels); const found: Float32Array[] = []; let chosen: any;
  while (session.position < tokens) {
    const logits = (await session.predict(chosen)).data as Float32Array;
    for (let i = 0; i < logits.length; i += vocabularySize) found.push(logits.subarray(i, i + vocabularySize));
    const [from, count] = [session.position, session.nextCount]; if (from + count === tokens) break;
    chosen = Int32Array.from({ length: labels.length * count }, (_, i) => codes[Math.floor(i / count) * tokens + from + (i % count)]);
  }
  await session.dispose(); return found;
}
test('x', async () => {
  const backend = await createNodeBackend();
  for (const name of ['tests/fixtures/fashion-ref', 'packages/model-fashion-32/model', 'packages/model-emoji-64/model']) {
    const exact: any = await load(path.join(root, name), { backend }); const rounded: any = await load(path.join(root, name), { backend, dtype: 'q8' });
    let same = 0, n = 0, kl = 0;
    for (const seed of [5, 6, 7]) {
    const labels = Array.from({ length: 20 }, (_, i) => i % exact.tokenModel.classes);
    let codes: any; for await (const step of exact.generate({ labels, seed, cfg: 1.5 })) codes = await step.tokens();
    const [a, b] = [await logitsAlong(exact, labels, codes.data), await logitsAlong(rounded, labels, codes.data)];
    const argmax = (v: Float32Array) => v.indexOf(v.reduce((x, y) => Math.max(x, y)));
    for (const [i, l] of a.entries()) { n++; if (argmax(l) === argmax(b[i])) same++; const [p, q] = [softmax(l), softmax(b[i])]; for (let k = 0; k < p.length; k++) if (p[k] > 0) kl += p[k] * Math.log(p[k] / Math.max(q[k], 1e-300)); }
    }
    console.log(name, (100 * same / n).toFixed(2), (kl / n).toExponential(2), n);
    await exact.dispose(); await rounded.dispose();
  }
  await backend.close();
}, 200000);
