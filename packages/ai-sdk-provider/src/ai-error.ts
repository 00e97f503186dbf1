import { AISDKError, InvalidArgumentError, UnsupportedFunctionalityError } from '@ai-sdk/provider';
import { DetailFlowError } from '@detailflow/core';

/**
 * What a model throws as an error of the AI SDK: `InvalidArgumentError`, `UnsupportedFunctionalityError`, else `AISDKError`, with the
 * cause. Errors of the SDK and reasons of a signal stay as they are.
 */
export function toAiError(thrown: unknown, signal?: AbortSignal): unknown {
  if (signal?.aborted || AISDKError.isInstance(thrown) || !DetailFlowError.isInstance(thrown)) return thrown;
  const { message, code } = thrown;
  if (code === 'invalid-argument')
    return new InvalidArgumentError({ argument: 'options', message, cause: thrown });
  if (code === 'unsupported') return new UnsupportedFunctionalityError({ functionality: message, message });
  return new AISDKError({ name: `DetailFlow_${code}`, message, cause: thrown });
}
