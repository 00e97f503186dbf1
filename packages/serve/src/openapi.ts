import { type OpenAPIHono, z } from '@hono/zod-openapi';
import { editFields, generationFields, textFields, variationFields } from './image-fields';
import type { Serving } from './picture-request';

const errorBody = z
  .object({
    error: z.object({
      message: z.string(),
      type: z.string(),
      param: z.string().nullable(),
      code: z.string().nullable(),
    }),
  })
  .openapi('Error');

const picture = z.object({
  b64_json: z.string(),
  seed: z.int().openapi({ description: 'With the same fields and this seed it is drawn again.' }),
  class: z.int().nullable(),
});

const images = z
  .object({
    created: z.int(),
    data: z.array(picture),
    size: z.string(),
    output_format: z.string(),
    quality: z.string(),
    background: z.string(),
    usage: z.object({ input_tokens: z.int(), output_tokens: z.int(), total_tokens: z.int() }).loose(),
  })
  .openapi('Images');

const event = z
  .union([
    picture.extend({
      type: z.string(),
      partial_image_index: z.int().optional(),
      image_index: z.int().optional().openapi({ description: 'Where n is above 1.' }),
      created_at: z.int(),
      size: z.string(),
    }),
    errorBody,
  ])
  .openapi('ImageEvent', { description: 'A preview or a picture; what went wrong is the last event.' });

const model = z
  .object({
    ...{ id: z.string(), object: z.literal('model'), created: z.int(), owned_by: z.string() },
    size: z.string().openapi({ description: 'Of its pictures, width first, such as "256x256".' }),
    ...{ image_width: z.int(), image_height: z.int() },
    prompt: z.enum(['class', 'text']).openapi({ description: 'What a prompt is for this model.' }),
    prompt_characters: z.int().optional().openapi({ description: 'Of a text: most characters.' }),
    prompt_tokens: z.int().optional().openapi({ description: 'Of a text: most tokens.' }),
    text_encoder: z.boolean().optional().openapi({ description: 'Whether texts are read here.' }),
  })
  .loose()
  .openapi('Model');

const file = z.instanceof(File).openapi({ type: 'string', format: 'binary' });
const json = (schema: z.ZodType) => ({ 'application/json': { schema } });
const answer = (description: string, schema: z.ZodType) => ({ description, content: json(schema) });

const faults = {
  400: answer('A field is wrong', errorBody),
  401: answer('The key is missing or wrong', errorBody),
  403: answer('A page of another site asks', errorBody),
  404: answer('The model is not served here', errorBody),
  413: answer('The body is too large', errorBody),
  415: answer('The content type is another', errorBody),
  429: answer('The queue is full; Retry-After says when to come again', errorBody),
  500: answer('The picture could not be drawn; the log of the server says why', errorBody),
  503: answer('The server is not ready, or closing, or the time is up', errorBody),
};

/** Says in the document of the app what its routes take and give. */
export function describeRoutes(
  app: Pick<OpenAPIHono, 'openAPIRegistry'>,
  { prompts }: Pick<Serving, 'prompts'>,
): void {
  const { openAPIRegistry: registry } = app;
  registry.registerComponent('securitySchemes', 'bearer', { type: 'http', scheme: 'bearer' });
  const security = [{ bearer: [] }];
  const pictures = {
    ...faults,
    200: {
      description: 'The pictures; with "stream" events, a `data:` line each',
      content: { ...json(images), 'text/event-stream': { schema: event } },
    },
  };
  const draw = (path: string, summary: string, content: Record<string, { schema: z.ZodType }>) =>
    registry.registerPath({
      ...{ method: 'post', path, summary, security, responses: pictures },
      request: { body: { required: true, content } },
    });
  const own = prompts && textFields(prompts.limit);
  // From their shapes: a schema that extends one with a name would be written as a part of itself, and where both are strict
  // nothing would fit: each refuses the fields of the other.
  const fieldsOf = (schema: z.ZodObject, name: string, files: Record<string, z.ZodType> = {}) =>
    z.strictObject({ ...schema.shape, ...own, ...files }).openapi(name);
  const generation = fieldsOf(generationFields, 'ImageGeneration');
  const edit = fieldsOf(editFields, 'ImageEdit', { image: file, mask: file.optional() });
  const variation = fieldsOf(variationFields, 'ImageVariation', { image: file });
  const what = prompts ? 'for a text' : 'of a class';
  draw('/v1/images/generations', `Draw pictures ${what}`, json(generation));
  draw('/v1/images/edits', 'Keep first tokens of a picture, or what a mask leaves, and draw the rest', {
    'multipart/form-data': { schema: edit },
  });
  draw('/v1/images/variations', 'Draw variations of a picture', {
    'multipart/form-data': { schema: variation },
  });
  const get = (
    path: string,
    summary: string,
    responses: Parameters<typeof registry.registerPath>[0]['responses'],
    more: Partial<Parameters<typeof registry.registerPath>[0]> = {},
  ) => registry.registerPath({ method: 'get', path, summary, responses, ...more });
  get(
    '/v1/models',
    'The served model',
    {
      200: answer('One model', z.object({ object: z.literal('list'), data: z.array(model) })),
      401: faults[401],
    },
    { security },
  );
  get(
    '/v1/models/{model}',
    'The served model by name',
    { 200: answer('The model', model), 401: faults[401], 404: faults[404] },
    { security, request: { params: z.object({ model: z.string() }) } },
  );
  get('/health', 'Whether the process lives', {
    200: answer('It does', z.object({ status: z.literal('ok') })),
  });
  get('/ready', 'Whether pictures are taken on', {
    200: answer('They are', z.object({ status: z.literal('ready') })),
    503: answer('Not yet, or no longer', z.object({ status: z.enum(['loading', 'draining', 'failed']) })),
  });
  get(
    '/metrics',
    'Counts and times for Prometheus',
    {
      200: { description: 'Its text format', content: { 'text/plain': { schema: z.string() } } },
      401: faults[401],
    },
    { security },
  );
}
