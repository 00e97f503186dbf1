import { DetailFlowError } from '@detailflow/core';

export interface ApiErrorDetails {
  /** As OpenAI names kinds of errors. */
  readonly type?: string;
  readonly code?: string;
  /** The field of the request that is at fault. */
  readonly param?: string;
  /** When to come again, seconds. */
  readonly retryAfter?: number;
  readonly cause?: unknown;
}

/** An answer other than success, with the status that it is sent with. */
export class ApiError extends Error {
  override readonly name = 'ApiError';
  readonly status: number;
  readonly type: string;
  readonly code: string | undefined;
  readonly param: string | undefined;
  readonly retryAfter: number | undefined;

  constructor(status: number, message: string, details: ApiErrorDetails = {}) {
    super(message, { cause: details.cause });
    this.status = status;
    this.type = details.type ?? (status >= 500 ? 'server_error' : 'invalid_request_error');
    this.code = details.code;
    this.param = details.param;
    this.retryAfter = details.retryAfter;
  }

  /** The body in OpenAI's form. */
  get body(): { readonly error: Readonly<Record<string, string | null>> } {
    const { message, type, param = null, code = null } = this;
    return { error: { message, type, param, code } };
  }
}

/** A field of the request that cannot be served. */
export const badField = (param: string, message: string, code = 'invalid_value'): ApiError =>
  new ApiError(400, message, { param, code });

/** Names of options where the API's fields are called otherwise. */
const fields: Readonly<Record<string, string>> = { labels: 'class', label: 'class', prefix: 'keep' };

/** Any error as an answer; what is no fault of the request says no more than that something failed. */
export function toApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  if (DetailFlowError.isInstance(error)) {
    const { code, message } = error;
    if (['invalid-argument', 'format', 'unsupported', 'limit', 'shape'].includes(code)) {
      const name = /^(?:the )?(\w+)(?= (?:is|holds|are) |: )/.exec(message)?.[1];
      return new ApiError(400, message, {
        code: 'invalid_value',
        param: name && (fields[name] ?? name),
        cause: error,
      });
    }
    if (code === 'closed') {
      return new ApiError(503, 'the server is closing', {
        code: 'server_closing',
        retryAfter: 5,
        cause: error,
      });
    }
  }
  if (error instanceof Error && error.name === 'AbortError') {
    return new ApiError(499, 'the client has gone', { code: 'cancelled', cause: error });
  }
  return new ApiError(500, 'the picture could not be drawn; the log of the server says why', {
    code: 'internal_error',
    cause: error,
  });
}
