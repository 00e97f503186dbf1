/** Programs to begin with; each runs as it is. */
export const examples: readonly { readonly title: string; readonly code: string }[] = [
  {
    title: 'Draw, with previews',
    code: `import { generate } from '@detailflow/sampler';
import { model, tokenizer, show } from 'playground';

for await (const step of generate({ model, tokenizer, labels: [9], seed: 7, cfg: 2 })) {
  console.log(step.count, 'of', step.total, 'tokens:', step.resolution, 'pixels');
  if (Number.isInteger(Math.log2(step.count))) show(await step.pixels());
}
`,
  },
  {
    title: 'Keep eight tokens, draw the rest anew',
    code: `import { generate, vary } from '@detailflow/sampler';
import { model, tokenizer, show } from 'playground';

let boot;
for await (const step of generate({ model, tokenizer, labels: [9], seed: 7, cfg: 2 })) {
  if (step.count === step.total) boot = await step.pixels();
}
show(boot);
for await (const step of vary(boot, { model, tokenizer, keepTokens: 8, count: 3, seed: 1, cfg: 1 })) {
  if (step.count === step.total) show(await step.pixels());
}
`,
  },
  {
    title: 'The first tokens, as numbers',
    code: `import { generate } from '@detailflow/sampler';
import { model, tokenizer, show } from 'playground';

for await (const step of generate({ model, tokenizer, labels: [1, 8], seed: 3, cfg: 2, tokens: 8 })) {
  if (step.count < step.total) continue;
  const tokens = await step.tokens();
  console.log(tokens.dims, [...tokens.data]);
  show(await step.pixels());
}
`,
  },
];
