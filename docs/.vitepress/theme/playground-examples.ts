/** Programs to begin with; each runs as it is. */
export const examples: readonly { readonly title: string; readonly code: string }[] = [
  {
    title: 'Draw, with previews',
    code: `import { generate } from '@detailflow/sampler';
import { model, tokenizer, show } from 'playground';

for await (const step of generate({ model, tokenizer, labels: [11], seed: 7, cfg: 2.5 })) {
  console.log(step.count, 'of', step.total, 'tokens:', step.resolution, 'pixels');
  if (Number.isInteger(Math.log2(step.count))) show(await step.pixels());
}
`,
  },
  {
    title: 'Keep eight tokens, draw the rest anew',
    code: `import { generate, vary } from '@detailflow/sampler';
import { model, tokenizer, show } from 'playground';

let face;
for await (const step of generate({ model, tokenizer, labels: [11], seed: 7, cfg: 2.5 })) {
  if (step.count === step.total) face = await step.pixels();
}
show(face);
for await (const step of vary(face, { model, tokenizer, keepTokens: 8, count: 3, seed: 1, labels: [11], cfg: 2.5 })) {
  if (step.count === step.total) show(await step.pixels());
}
`,
  },
  {
    title: 'The first tokens, as numbers',
    code: `import { generate } from '@detailflow/sampler';
import { model, tokenizer, show } from 'playground';

for await (const step of generate({ model, tokenizer, labels: [7, 12], seed: 3, cfg: 2.5, tokens: 8 })) {
  if (step.count < step.total) continue;
  const tokens = await step.tokens();
  console.log(tokens.dims, [...tokens.data]);
  show(await step.pixels());
}
`,
  },
];
