import { ApiError } from './api-error';

/** Fields and files of a multipart body. */
const MOST_PARTS = 64;

/** The body of a request, in the parts in which it came. */
export interface Body {
  readonly parts: Uint8Array[];
  readonly size: number;
}

/** The body of a request. @throws ApiError 413 beyond the limit, 400 where it breaks off; the signal's reason */
export async function readBody(request: Request, limit: number, signal: AbortSignal): Promise<Body> {
  const tooLarge = () =>
    new ApiError(413, `the body has more than ${limit} bytes`, { code: 'body_too_large' });
  if (Number(request.headers.get('content-length') ?? 0) > limit) throw tooLarge();
  const parts: Uint8Array[] = [];
  let size = 0;
  signal.throwIfAborted();
  const reader = request.body?.getReader();
  const stop = () => void reader?.cancel().catch(() => {}); // ends the read under way
  signal.addEventListener('abort', stop, { once: true });
  try {
    for (let part = await reader?.read(); part && !part.done; part = await reader?.read()) {
      size += part.value.length;
      if (size > limit) throw tooLarge();
      parts.push(part.value);
    }
  } catch (error) {
    if (error instanceof ApiError) {
      await reader?.cancel().catch(() => {});
      throw error;
    }
    signal.throwIfAborted();
    throw new ApiError(400, 'the body breaks off', { code: 'incomplete_body', cause: error });
  } finally {
    signal.removeEventListener('abort', stop);
  }
  signal.throwIfAborted();
  return { parts, size };
}

/** The body in one piece; its parts are let go. */
function joined({ parts, size }: Body): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(size);
  let at = 0;
  for (const part of parts.splice(0)) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** A JSON object. @throws ApiError 415 for another type, 413, 400; the signal's reason */
export async function readJson(
  request: Request,
  limit: number,
  signal: AbortSignal,
): Promise<Record<string, unknown>> {
  requireType(request, 'application/json');
  const bytes = joined(await readBody(request, limit, signal));
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new ApiError(400, 'the body is no JSON', { code: 'invalid_json', cause });
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>;
  }
  throw new ApiError(400, 'the body is no JSON object', { code: 'invalid_json' });
}

/** The content type of a form. @throws ApiError 415 for another type */
export const requireForm = (request: Request): string => requireType(request, 'multipart/form-data');

/** Fields and files of a form, by name; takes memory for the body twice more. @throws ApiError 400 */
export async function parseForm(body: Body, type: string): Promise<Map<string, (string | File)[]>> {
  const bytes = joined(body);
  const boundary = /boundary=(?:"([^"]+)"|([^;\s]+))/i.exec(type)?.slice(1).find(Boolean);
  const broken = (cause?: unknown) =>
    new ApiError(400, 'the body is no multipart form', { code: 'invalid_form', cause });
  if (!boundary) throw broken();
  if (countOf(bytes, `--${boundary}`) > MOST_PARTS + 1) {
    throw new ApiError(400, `the form has more than ${MOST_PARTS} parts`, { code: 'invalid_form' });
  }
  let form: FormData;
  try {
    form = await new Response(bytes, { headers: { 'content-type': type } }).formData();
  } catch (cause) {
    throw broken(cause);
  }
  const fields = new Map<string, (string | File)[]>();
  for (const [name, value] of form as unknown as Iterable<[string, string | File]>) {
    fields.set(name, [...(fields.get(name) ?? []), value]);
  }
  return fields;
}

function requireType(request: Request, type: string): string {
  const given = request.headers.get('content-type') ?? '';
  if (given.split(';')[0].trim().toLowerCase() === type) return given;
  throw new ApiError(415, `the content type must be ${type}`, { code: 'unsupported_content_type' });
}

/** How often a text of ASCII occurs, up to somewhat more than what is too much. */
function countOf(bytes: Uint8Array, text: string): number {
  const whole = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  let count = 0;
  for (let at = whole.indexOf(text); at >= 0 && count <= MOST_PARTS + 1; at = whole.indexOf(text, at + 1))
    count++;
  return count;
}
