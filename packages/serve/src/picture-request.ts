import { randomInt } from 'node:crypto';
import { type ImageTokenizer, stepAt, type Tensor, type TokenModel } from '@detailflow/core';
import type { BatchPictureOptions } from '@detailflow/sampler/batch';
import { ApiError, badField } from './api-error';
import { classOf } from './class-of';
import type { OutputFormat } from './encode-picture';
import type { ImageFields } from './image-fields';
import { type PictureSize, sizeOfTokens, sizeText } from './picture-size';
import { previewCounts } from './preview-counts';
import type { PromptCondition, PromptEncoder } from './prompt-encoder';
import type { ServedModel } from './served-model';

/** A model with its AR part, under the name that it is served by. */
export interface Serving {
  readonly id: string;
  readonly model: ServedModel;
  readonly tokenModel: TokenModel;
  /** Most pictures of one request. */
  readonly most: number;
  /** Present where a prompt is a text. */
  readonly prompts?: PromptRules;
}

/** What a prompt may be that is a text. */
export interface PromptRules {
  /** Most characters. */
  readonly limit: number;
  /** Absent where nobody reads prompts here. */
  readonly encoder?: PromptEncoder;
}

/** Tokens of a picture that stay, for edits and variations. */
export interface KeptTokens {
  readonly prefix?: Tensor<'int32'>;
  readonly keep?: { readonly codes: Tensor<'int32'>; readonly mask: Tensor<'bool'> };
  /** First tokens that stand from the beginning. */
  readonly count: number;
}

/** What is to be drawn, checked. */
export interface PictureRequest {
  readonly n: number;
  /** Of the first picture. */
  readonly seed: number;
  /** The class; undefined for none. */
  readonly label: number | undefined;
  /** A text that is still to be encoded; see {@link withText}. */
  readonly prompt: string | undefined;
  /** Tokens of the text. */
  readonly textTokens: number;
  readonly format: OutputFormat;
  /** 0 to 100, for jpeg and webp. */
  readonly quality: number;
  /** Of the pictures. */
  readonly size: PictureSize;
  /** Tokens of each picture. */
  readonly tokens: number;
  /** Tokens that stand from the beginning. */
  readonly kept: number;
  /** After how many tokens previews are shown. */
  readonly previews: readonly number[];
  readonly stream: boolean;
  /** For the batch; picture i adds i to the seed. */
  readonly options: Omit<BatchPictureOptions, 'seed' | 'signal'>;
}

/** Seeds that nobody asked for stay in what every language calls an integer. */
const RANDOM_SEEDS = 2 ** 31;

/**
 * Puts a request together from its checked fields.
 * @param options.needsClass whether a class must be given, by `class` or by `prompt`; or a text, by `prompt`
 * @throws ApiError 400 naming the field, 404 for another model
 */
export function pictureRequest(
  { id, model, tokenModel, most, prompts }: Serving,
  fields: ImageFields,
  { needsClass, kept = { count: 0 } }: { needsClass: boolean; kept?: KeptTokens },
): PictureRequest {
  const { tokenizer } = model;
  if (fields.model != null && fields.model !== '' && fields.model !== id) {
    throw new ApiError(404, `the model "${fields.model}" is not served here; "${id}" is`, {
      ...{ param: 'model', code: 'model_not_found' },
    });
  }
  if (fields.response_format === 'url') {
    throw badField(
      'response_format',
      'pictures are not kept here, so there are no addresses: give "b64_json"',
    );
  }
  if (fields.background === 'transparent') throw badField('background', 'pictures are opaque');
  const format = fields.output_format ?? 'png';
  if (format === 'png' && (fields.output_compression ?? 100) !== 100) {
    throw badField('output_compression', 'output_compression is for jpeg and webp; png loses nothing');
  }
  if ((fields.n ?? 1) > most) throw badField('n', `n is ${fields.n}; ${most} is the most here`);
  const wanted = fields.tokens ?? tokenModel.tokens;
  if (wanted > tokenModel.tokens) {
    throw badField('tokens', `tokens is ${wanted}; the model draws ${tokenModel.tokens}`);
  }
  const last = stepAt(tokenModel.schedule, wanted - 1);
  const tokens = last.position + last.count;
  const label = prompts ? undefined : labelOf(fields, tokenModel, model.card?.classNames, needsClass);
  const prompt = prompts && promptOf(fields, prompts, needsClass);
  const previews = previewsOf(fields, { tokenModel, tokenizer, tokens, from: kept.count });
  const { cfg, guidance, temperature, topK, topP } = fields;
  const guidances = ['constant', ...Object.keys(tokenModel.guidances ?? {})];
  if (guidance != null && !guidances.includes(guidance)) {
    throw badField('guidance', `guidance is "${guidance}"; this model has ${guidances.join(', ')}`);
  }
  return {
    ...{ label, prompt, textTokens: 0, format, tokens, previews },
    n: fields.n ?? 1,
    seed: fields.seed ?? randomInt(RANDOM_SEEDS),
    quality: fields.output_compression ?? 100,
    size: sizeOf(fields.size, tokenizer, tokens),
    stream: fields.stream ?? false,
    kept: kept.keep ? kept.keep.mask.data.filter((one) => one === 1).length : kept.count,
    options: {
      label: label ?? tokenModel.unconditional(),
      cfg: cfg ?? model.cfg,
      tokens,
      ...(guidance != null && { guidance }),
      ...(temperature != null && { temperature }),
      ...(topK != null && { topK }),
      ...(topP != null && { topP }),
      ...(kept.prefix && { prefix: kept.prefix }),
      ...(kept.keep && { keep: kept.keep }),
    },
  };
}

function labelOf(
  { class: given, prompt }: ImageFields,
  { classes }: TokenModel,
  names: readonly string[] | undefined,
  isNeeded: boolean,
): number | undefined {
  if (given != null) return classOf(given, { classes, names, field: 'class' });
  if (prompt != null && prompt.trim() !== '') return classOf(prompt, { classes, names, field: 'prompt' });
  if (!isNeeded) return undefined;
  throw badField(
    'prompt',
    'give a class: its name as "prompt", or its number or name as "class"',
    'missing_field',
  );
}

/** The text that is to be encoded. @throws ApiError 400, also where nobody could */
function promptOf(
  { class: given, prompt }: ImageFields,
  { limit, encoder }: PromptRules,
  isNeeded: boolean,
): string | undefined {
  if (given != null) {
    throw badField('class', 'this model draws for texts and has no classes: give the text as "prompt"');
  }
  if (prompt == null || prompt.trim() === '') {
    if (!isNeeded) return undefined;
    throw badField('prompt', 'give the text to draw for as "prompt"', 'missing_field');
  }
  if (!encoder) {
    throw badField(
      'prompt',
      'this model draws for texts, and this server has no encoder to read them: start it with one, --text-encoder FILE of the command or the option encodeText',
      'no_text_encoder',
    );
  }
  if (prompt.length <= limit) return prompt;
  throw badField('prompt', `the prompt has ${prompt.length} characters; ${limit} are the most here`);
}

/** The request with its text, which has been encoded. */
export function withText(request: PictureRequest, { condition, tokens }: PromptCondition): PictureRequest {
  return {
    ...{ ...request, prompt: undefined, textTokens: tokens },
    options: { ...request.options, label: condition },
  };
}

/** The size of the pictures: what so many tokens are worth, or a smaller one that the model draws. */
function sizeOf(size: string | null | undefined, tokenizer: ImageTokenizer, tokens: number): PictureSize {
  const own = sizeOfTokens(tokenizer, tokens);
  if (size == null || size === 'auto' || size === sizeText(own)) return own;
  const grows = tokenizer.previews === 'coarse-to-fine';
  const all = grows ? Array.from({ length: tokens }, (_, i) => sizeOfTokens(tokenizer, i + 1)) : [own];
  const sizes = new Map(all.map((one) => [sizeText(one), one]));
  const found = sizes.get(size);
  if (found) return found;
  const listed = [...sizes].sort(([, a], [, b]) => a.height - b.height).map(([text]) => text);
  throw badField('size', `size is "${size}"; this model draws ${listed.join(', ')}, or give "auto"`);
}

function previewsOf(
  { partial_images: count, stream }: ImageFields,
  {
    tokens,
    from,
    ...parts
  }: { tokenModel: TokenModel; tokenizer: ImageTokenizer; tokens: number; from: number },
): number[] {
  if (!count) return [];
  if (!stream)
    throw badField('partial_images', 'partial_images is for answers in events: give "stream": true');
  if (parts.tokenizer.previews === 'none') {
    throw badField('partial_images', 'the first tokens of this model show nothing; give 0');
  }
  return previewCounts(parts, { count, total: tokens, from });
}
