import { type ApiError, toApiError } from './api-error';
import type { DrawnPicture } from './picture-desk';
import type { PictureRequest } from './picture-request';
import { sizeText } from './picture-size';

/** What one picture of a request cost, as OpenAI counts. */
function usage({ tokens, kept, textTokens }: PictureRequest, pictures: number) {
  const [drawn, given] = [(tokens - kept) * pictures, kept * pictures];
  return {
    total_tokens: drawn + given + textTokens,
    input_tokens: given + textTokens,
    output_tokens: drawn,
    input_tokens_details: { image_tokens: given, text_tokens: textTokens },
    output_tokens_details: { image_tokens: drawn, text_tokens: 0 },
  };
}

const seconds = () => Math.floor(Date.now() / 1000);
const base64 = (bytes: Uint8Array) =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('base64');

/** Fields of a picture, ours among them: by these it can be drawn again. */
const made = ({ seed, label }: PictureRequest, index: number) => ({
  seed: seed + index,
  class: label ?? null,
});

/** The answer that holds all pictures at once. */
export async function wholeAnswer(
  request: PictureRequest,
  pictures: AsyncIterable<DrawnPicture>,
): Promise<Record<string, unknown>> {
  const data: Record<string, unknown>[] = [];
  for await (const { index, bytes } of pictures)
    data[index] = { b64_json: base64(bytes), ...made(request, index) };
  return {
    created: seconds(),
    ...{ background: 'opaque', quality: 'high', output_format: request.format, data },
    size: sizeText(request.size),
    usage: usage(request, request.n),
  };
}

/** Events of a picture on its way; an error inside the stream is its last event. */
export async function* answerEvents(
  kind: 'image_generation' | 'image_edit',
  request: PictureRequest,
  pictures: AsyncIterable<DrawnPicture>,
  onError: (error: ApiError) => void,
): AsyncGenerator<object, void, void> {
  try {
    for await (const { index, preview, size, bytes } of pictures) {
      const common = {
        ...{ b64_json: base64(bytes), created_at: seconds(), size: sizeText(size), quality: 'high' },
        ...{ background: 'opaque', output_format: request.format, ...made(request, index) },
        ...(request.n > 1 && { image_index: index }),
      };
      yield preview === undefined
        ? { type: `${kind}.completed`, ...common, usage: usage(request, 1) }
        : { type: `${kind}.partial_image`, partial_image_index: preview, ...common };
    }
  } catch (error) {
    const answer = toApiError(error);
    onError(answer);
    yield answer.body;
  }
}
