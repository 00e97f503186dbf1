import { randomInt } from 'node:crypto';
import { type ImageTokenizer, stepAt, type Tensor, type TokenModel } from '@detailflow/core';
import type { BatchPictureOptions } from '@detailflow/sampler/batch';
import { ApiError, badField } from './api-error';
import { classOf } from './class-of';
import type { OutputFormat } from './encode-picture';
import type { ImageFields } from './image-fields';
import { previewCounts } from './preview-counts';
import type { ServedModel } from './served-model';

/** A model with its AR part, under the name that it is served by. */
export interface Serving {
  readonly id: string;
  readonly model: ServedModel;
  readonly tokenModel: TokenModel;
  /** Most pictures of one request. */
  readonly most: number;
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
  readonly format: OutputFormat;
  /** 0 to 100, for jpeg and webp. */
  readonly quality: number;
  /** Side of the pictures in pixels. */
  readonly size: number;
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
 * @param options.needsClass whether a class must be given, by `class` or by `prompt`
 * @throws ApiError 400 naming the field, 404 for another model
 */
export function pictureRequest(
  { id, model, tokenModel, most }: Serving,
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
  const label = labelOf(fields, tokenModel, model.card?.classNames, needsClass);
  const previews = previewsOf(fields, { tokenModel, tokenizer, tokens, from: kept.count });
  const { cfg, guidance, temperature, topK, topP } = fields;
  const guidances = ['constant', ...Object.keys(tokenModel.guidances ?? {})];
  if (guidance != null && !guidances.includes(guidance)) {
    throw badField('guidance', `guidance is "${guidance}"; this model has ${guidances.join(', ')}`);
  }
  return {
    ...{ label, format, tokens, previews },
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

/** The side of the pictures: what so many tokens are worth, or a smaller one that the model draws. */
function sizeOf(size: string | null | undefined, tokenizer: ImageTokenizer, tokens: number): number {
  const own = tokenizer.resolution(tokens);
  if (size == null || size === 'auto' || size === `${own}x${own}`) return own;
  const grows = tokenizer.previews === 'coarse-to-fine';
  const sides = new Set(
    grows ? Array.from({ length: tokens }, (_, i) => tokenizer.resolution(i + 1)) : [own],
  );
  const found = [...sides].find((side) => size === `${side}x${side}`);
  if (found !== undefined) return found;
  const listed = [...sides].sort((a, b) => a - b).map((side) => `${side}x${side}`);
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
