import { OpenAPIHono, z } from '@hono/zod-openapi';
import { describe, expect, test } from 'vitest';
import { ApiError } from './api-error';
import { answerEvents } from './image-answers';
import { checkFields, editFields, formFields, generationFields, variationFields } from './image-fields';
import { describeRoutes } from './openapi';
import type { DrawnPicture } from './picture-desk';
import type { PictureRequest } from './picture-request';

// The document is read by programs that make clients of it: what the server takes must fit it, and what it refuses must not.

const app = new OpenAPIHono();
describeRoutes(app, {});
const document = app.getOpenAPI31Document({ openapi: '3.1.0', info: { title: 'test', version: '1' } });

/** A schema of the document as what checks values. */
function schemaAt(...names: string[]) {
  let found: unknown = document;
  for (const name of names) found = (found as Record<string, unknown>)[name];
  const text = JSON.stringify({ ...(found as object), $defs: document.components?.schemas });
  return z.fromJSONSchema(JSON.parse(text.replaceAll('#/components/schemas/', '#/$defs/')));
}
const bodyOf = (route: string, type: string) =>
  schemaAt('paths', `/v1/images/${route}`, 'post', 'requestBody', 'content', type, 'schema');

test.each([
  [{ prompt: '5' }],
  [{ prompt: null, class: 3, n: null, size: 'auto', stream: true, partial_images: 3 }],
  [{ class: 'bag', output_format: 'jpeg', output_compression: 0, user: 'somebody', quality: 'high' }],
  [{ n: 11 }],
  [{ seed: 1.5 }],
  [{ seed: 2 ** 49 }],
  [{ temperature: 0 }],
  [{ keep: 3 }],
])('%j is JSON that the server and its document think the same of', (fields) => {
  let isTaken = true;
  try {
    checkFields(generationFields, fields);
  } catch {
    isTaken = false;
  }
  expect(bodyOf('generations', 'application/json').safeParse(fields).success).toBe(isTaken);
});

describe.each([
  ['edits', editFields],
  ['variations', variationFields],
] as const)('the form of %s', (route, schema) => {
  const fits = (form: object) => bodyOf(route, 'multipart/form-data').safeParse(form).success;

  test('that the server takes fits its document, with its files', () => {
    const texts = new Map(
      Object.entries({ prompt: ['5'], n: ['2'], seed: ['7'], keep: ['3'], stream: ['true'] }),
    );
    const fields = checkFields(schema, formFields(texts));
    expect(fits({ ...fields, image: 'bytes' })).toBe(true);
    expect(fits({ ...fields, image: 'bytes', mask: 'bytes' })).toBe(route === 'edits');
  });

  test('needs a picture, and has no other fields', () => {
    expect(fits({ prompt: '5' })).toBe(false);
    expect(fits({ prompt: '5', image: 'bytes', tokens: 3 })).toBe(false);
  });
});

test('events fit the document, the one that says what went wrong among them', async () => {
  const request = {
    n: 2,
    seed: 1,
    label: 3,
    format: 'png',
    tokens: 4,
    kept: 0,
    textTokens: 0,
  } as PictureRequest;
  async function* pictures(): AsyncGenerator<DrawnPicture> {
    const common = { index: 1, size: { width: 4, height: 4 }, bytes: new Uint8Array(3) };
    yield { ...common, preview: 0 };
    yield common;
    throw new ApiError(503, 'the server is closing', { code: 'server_closing' });
  }
  const event = schemaAt('components', 'schemas', 'ImageEvent');
  const seen: unknown[] = [];
  for await (const one of answerEvents('image_edit', request, pictures(), () => {})) {
    expect(event.safeParse(one).success, JSON.stringify(one)).toBe(true);
    seen.push(one);
  }
  expect(seen).toHaveLength(3);
  expect(event.safeParse({ type: 'image_edit.completed' }).success).toBe(false);
});

test('names every part of an address, and what a server with keys wants', () => {
  const { get } = (document.paths as Record<string, { get: object }>)['/v1/models/{model}'];
  expect(get).toMatchObject({ parameters: [{ name: 'model', in: 'path', required: true }] });
  for (const path of ['/v1/models', '/v1/models/{model}', '/metrics']) {
    const found = (document.paths as Record<string, { get: object }>)[path].get;
    expect(found).toMatchObject({ security: [{ bearer: [] }], responses: { 401: {} } });
  }
  const { post } = (document.paths as Record<string, { post: { responses: object } }>)[
    '/v1/images/generations'
  ];
  expect(Object.keys(post.responses)).toEqual(expect.arrayContaining(['404', '429', '500', '503']));
});
