import { z } from '@hono/zod-openapi';
import { ApiError, badField } from './api-error';

/** The largest seed of a request; a picture of it adds its index. */
const LARGEST_SEED = 2 ** 48;
export const MOST_PICTURES = 10;
/** Characters of a prompt. */
export const LONGEST_PROMPT = 32_000;
const MOST_PARTIALS = 3;

const text = (most: number) => z.string().max(most);

/** Fields that all three ways to a picture share; null is as good as absent, as with OpenAI. */
const shared = {
  model: text(256).nullish().openapi({ description: 'The served model; may be left out.' }),
  n: z
    .int()
    .min(1)
    .max(MOST_PICTURES)
    .nullish()
    .openapi({ description: 'Pictures; picture i uses seed + i.' }),
  size: text(16)
    .nullish()
    .openapi({ description: '"auto", or a size that the model draws, such as "256x256".' }),
  response_format: z
    .enum(['b64_json', 'url'])
    .nullish()
    .openapi({ description: 'Only "b64_json" is served.' }),
  output_format: z.enum(['png', 'jpeg', 'webp']).nullish(),
  output_compression: z.int().min(0).max(100).nullish().openapi({ description: 'Quality of jpeg and webp.' }),
  stream: z.boolean().nullish().openapi({ description: 'Answer with events as the pictures sharpen.' }),
  partial_images: z
    .int()
    .min(0)
    .max(MOST_PARTIALS)
    .nullish()
    .openapi({ description: 'Previews of each picture.' }),
  user: text(512).nullish().openapi({ description: 'Accepted and neither used nor logged.' }),
  quality: text(32).nullish().openapi({ description: 'Accepted; there is one quality.' }),
  background: z
    .enum(['opaque', 'auto', 'transparent'])
    .nullish()
    .openapi({ description: 'Pictures are opaque.' }),
  class: z
    .union([z.int().min(0), text(256)])
    .nullish()
    .openapi({
      description: 'Class number or name; goes before the prompt. The number of classes means none.',
    }),
  seed: z
    .int()
    .min(0)
    .max(LARGEST_SEED)
    .nullish()
    .openapi({ description: 'Default: a random one; the answer says it.' }),
  cfg: z.number().min(0).max(1000).nullish().openapi({
    description: 'Guidance scale; none is 1, or 0 where guidance grows along the steps (VAR, FlexVAR).',
  }),
  guidance: text(64).nullish().openapi({ description: 'How the scale runs along the steps.' }),
  temperature: z.number().min(1e-5).max(1e5).nullish(),
  topK: z.int().min(0).nullish().openapi({ description: 'Draw among the most likely tokens; 0 for all.' }),
  topP: z.number().min(0).max(1).nullish(),
};

const prompt = text(LONGEST_PROMPT)
  .nullish()
  .openapi({ description: 'The name of a class (or its number).' });
const keep = z.int().min(0).nullish().openapi({ description: 'First tokens of the picture that stay.' });

export const generationFields = z
  .strictObject({
    ...shared,
    prompt,
    moderation: text(32).nullish().openapi({ description: 'Accepted and not used.' }),
    style: text(32).nullish().openapi({ description: 'Accepted and not used.' }),
    tokens: z
      .int()
      .min(1)
      .nullish()
      .openapi({ description: 'Stop after so many tokens: a coarser picture.' }),
  })
  .openapi('ImageGeneration');

export const editFields = z
  .strictObject({
    ...shared,
    prompt,
    keep,
    input_fidelity: text(32).nullish().openapi({ description: 'Accepted and not used.' }),
  })
  .openapi('ImageEdit');

export const variationFields = z.strictObject({ ...shared, prompt, keep }).openapi('ImageVariation');

/** The same fields for a model of texts, as its document describes them. */
export const textFields = (limit: number) => ({
  prompt: text(limit).nullish().openapi({ description: 'The text to draw for.' }),
  class: shared.class.openapi({ description: 'Not for this model, which draws for texts: give "prompt".' }),
});

/** Fields of any of the three kinds of requests. */
export type ImageFields = Partial<
  z.infer<typeof generationFields> & z.infer<typeof editFields> & z.infer<typeof variationFields>
>;

/** Checks the fields of a request. @throws ApiError 400 naming the first field that is wrong */
export function checkFields(schema: z.ZodType<ImageFields>, value: unknown): ImageFields {
  const { success, data, error } = schema.safeParse(value);
  if (success) return data;
  const [issue] = error.issues;
  if (issue.code === 'unrecognized_keys') {
    const [name] = issue.keys.map((key) => key.slice(0, 64));
    throw new ApiError(400, `there is no field ${JSON.stringify(name)}`, {
      param: name,
      code: 'unknown_field',
    });
  }
  const name = issue.path.join('.') || 'body';
  throw badField(name, `${name}: ${issue.message}`);
}

const numeric = [
  'n',
  'output_compression',
  'partial_images',
  'seed',
  'cfg',
  'temperature',
  'topK',
  'topP',
  'keep',
];

/** The text fields of a form as JSON would have them. @throws ApiError 400 for a field given twice */
export function formFields(form: ReadonlyMap<string, readonly (string | File)[]>): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  for (const [name, values] of form) {
    if (['image', 'image[]', 'mask'].includes(name)) continue;
    const [value, ...more] = values;
    if (more.length > 0) throw badField(name, `${name} is given ${values.length} times`);
    if (typeof value !== 'string') {
      const right = name.replace(/\[.*\]$/, '');
      const hint = ['image', 'mask'].includes(right) ? `give it as ${right}` : 'give text';
      throw badField(name, `${name} is a file; ${hint}`);
    }
    if (numeric.includes(name) && /^-?\d+(\.\d+)?(e-?\d+)?$/i.test(value)) out[name] = Number(value);
    else if (name === 'stream' && ['true', 'false'].includes(value)) out[name] = value === 'true';
    else out[name] = value;
  }
  return out;
}
