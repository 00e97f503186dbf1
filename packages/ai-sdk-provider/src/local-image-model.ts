import {
  type ImageModelV3,
  type ImageModelV3CallOptions,
  InvalidArgumentError,
  InvalidPromptError,
  NoSuchModelError,
  type SharedV3Warning,
  UnsupportedFunctionalityError,
} from '@ai-sdk/provider';
import { DetailFlowError, stepAt, suggestion } from '@detailflow/core';
import { type Model, pictureFromPixels, readImages, type Tensor } from 'detailflow';
import { toAiError } from './ai-error';
import {
  type DetailFlowImageOptions,
  drawOptions,
  firstSeed,
  MOST_PICTURES,
  pictureCount,
} from './draw-options';
import { bytesOf } from './image-file';
import { type SizeText, shapeWarning } from './picture-shape';

/** Pictures that are drawn together. */
const BATCH = 16;

type Result = Awaited<ReturnType<ImageModelV3['doGenerate']>>;

/** Draws in this process. */
export class LocalImageModel implements ImageModelV3 {
  readonly specificationVersion = 'v3';
  readonly provider = 'detailflow';
  readonly maxImagesPerCall = MOST_PICTURES;
  readonly modelId: string;
  readonly #model: () => Promise<Model>;

  /** @param model opens it with the first call */
  constructor(modelId: string, model: () => Promise<Model>) {
    this.modelId = modelId;
    this.#model = model;
  }

  /**
   * @throws InvalidPromptError for no class, InvalidArgumentError, UnsupportedFunctionalityError, AISDKError; the reason of
   *   `abortSignal`
   */
  async doGenerate(options: ImageModelV3CallOptions): Promise<Result> {
    const signal = options?.abortSignal; // whether there are options is looked at below
    try {
      const own = drawOptions(options);
      const [seed, n] = [firstSeed(options), pictureCount(options)];
      signal?.throwIfAborted();
      const timestamp = new Date();
      const model = await this.#model();
      const plan = planOf(model, options, own, this.modelId);
      const images: Uint8Array[] = [];
      for (let at = 0; at < n; at += BATCH) {
        const count = Math.min(BATCH, n - at);
        const codes = await plan.draw(seed + at, count, signal);
        const pixels = await model.decode(codes, { tokens: plan.tokens, size: plan.height, signal });
        for (let i = 0; i < count; i++) images.push(await pictureFromPixels(pixels, i).toPng());
      }
      return {
        images,
        warnings: plan.warnings,
        providerMetadata: {
          detailflow: {
            images: images.map((_, i) => ({ seed: seed + i, tokens: plan.tokens, size: plan.size })),
          },
        },
        response: { timestamp, modelId: this.modelId, headers: undefined },
      };
    } catch (error) {
      throw toAiError(error, signal);
    }
  }
}

interface Plan {
  readonly tokens: number;
  readonly size: SizeText;
  /** Of the pictures, in pixels. */
  readonly height: number;
  readonly warnings: SharedV3Warning[];
  /** Codes of `count` pictures with seeds from `seed` on: [count, tokens]. */
  draw(seed: number, count: number, signal?: AbortSignal): Promise<Tensor<'int32'>>;
}

function planOf(
  model: Model,
  options: ImageModelV3CallOptions,
  own: DetailFlowImageOptions,
  modelId: string,
): Plan {
  const { tokenizer, tokenModel } = model;
  const { aspectRatio, size, files = [], mask, headers } = options;
  if (!tokenModel) throw new NoSuchModelError({ modelId, modelType: 'imageModel' });
  if (mask) {
    throw new UnsupportedFunctionalityError({
      functionality: 'mask',
      message:
        'pictures are varied as a whole in this process: give no mask, and say by "keep" how much of them stays',
    });
  }
  const { keep, tokens: wanted, ...sampling } = own;
  const all = tokenModel.tokens;
  for (const [name, value] of Object.entries({ tokens: wanted, keep })) {
    if (value !== undefined && value > all) throw outOf(`providerOptions.detailflow.${name}`, value, all);
  }
  const warnings: SharedV3Warning[] = [];
  const unsupported = (feature: string, details: string) =>
    warnings.push({ type: 'unsupported', feature, details });
  if (headers && Object.keys(headers).some((name) => name.toLowerCase() !== 'user-agent')) {
    unsupported('headers', 'pictures are drawn in this process');
  }
  if (tokenModel.classes === 0) {
    throw new UnsupportedFunctionalityError({
      functionality: 'texts',
      message:
        'this model draws for texts, which nobody reads in this process: serve it with a text encoder (detailflow serve --text-encoder FILE), and give baseURL',
    });
  }
  const label = labelOf(model, options.prompt, { isNeeded: files.length === 0, classes: tokenModel.classes });
  if (files.length > 0) {
    if (wanted !== undefined)
      unsupported('tokens', 'pictures that are varied are drawn with all their tokens');
    const kept = keep ?? Math.round(all / 2);
    const { height: side, size: own } = sizeOfTokens(all);
    if (own !== `${side}x${side}`) {
      throw new UnsupportedFunctionalityError({
        functionality: 'files',
        message: `pictures to vary are cut square, and those of this model are ${own}`,
      });
    }
    return {
      ...{ tokens: all, warnings, ...chosenSize(all) },
      async draw(seed, count, signal) {
        const original = await readPicture(files, side, signal);
        const labels = label === undefined ? undefined : [label];
        return lastTokens(
          model.vary(original, { ...sampling, labels, keepTokens: kept, count, seed, signal }),
        );
      },
    };
  }
  if (keep !== undefined) unsupported('keep', 'there are no pictures of which tokens could stay');
  const last = stepAt(tokenModel.schedule, (wanted ?? all) - 1);
  const tokens = last.position + last.count; // steps are drawn whole
  return {
    ...{ tokens, warnings, ...chosenSize(tokens) },
    draw: (seed, count, signal) =>
      lastTokens(model.generate({ ...sampling, labels: Array(count).fill(label), tokens, seed, signal })),
  };

  function sizeOfTokens(count: number): { readonly size: SizeText; readonly height: number } {
    const height = tokenizer.resolution(count);
    return { size: `${tokenizer.width?.(count) ?? height}x${height}`, height };
  }

  /** What the tokens are worth, or a smaller size that the model draws. */
  function chosenSize(count: number): { readonly size: SizeText; readonly height: number } {
    const own = sizeOfTokens(count);
    const grows = tokenizer.previews === 'coarse-to-fine';
    const all = grows ? Array.from({ length: count }, (_, i) => sizeOfTokens(i + 1)) : [own];
    const found = size === undefined ? own : all.find((one) => one.size === size);
    if (!found) {
      const listed = [...new Set(all.map((one) => one.size))].join(', ');
      unsupported('size', `this model draws ${listed}; the picture is ${own.size}`);
    }
    const chosen = found ?? own;
    const details = shapeWarning(aspectRatio, chosen.size);
    if (details) unsupported('aspectRatio', details);
    return chosen;
  }
}

/** The class that a prompt names: by name, whatever its case, or by number. */
function labelOf(
  { card }: Model,
  prompt: string | undefined,
  { isNeeded, classes }: { readonly isNeeded: boolean; readonly classes: number },
): number | undefined {
  const wanted = plainName(prompt ?? '');
  if (wanted === '' && !isNeeded) return undefined;
  const names = card?.classNames;
  const found = names?.flatMap((name, i) => (plainName(name) === wanted ? [i] : [])) ?? [];
  if (found.length === 1) return found[0];
  if (/^\d{1,9}$/.test(wanted) && Number(wanted) < classes) return Number(wanted);
  const hint =
    found.length > 1
      ? `it is the name of the classes ${found.join(', ')}; give a number`
      : ((names && suggestion(wanted, names)) ??
        (names ? `there are ${names.slice(0, 20).join(', ')}` : `give a number, 0 to ${classes - 1}`));
  throw new InvalidPromptError({ prompt, message: `the prompt must name a class of the model; ${hint}` });
}

/** As a server compares them: Unicode has two ways for letters with marks, and file systems choose one. */
const plainName = (name: string): string => name.normalize().trim().toLowerCase();

async function lastTokens(steps: ReturnType<Model['generate']>): Promise<Tensor<'int32'>> {
  for await (const step of steps) if (step.count === step.total) return step.tokens();
  throw new DetailFlowError('runtime', 'the sampler made no step');
}

async function readPicture(
  files: NonNullable<ImageModelV3CallOptions['files']>,
  side: number,
  signal?: AbortSignal,
): Promise<Tensor<'float32'>> {
  if (files.length > 1) {
    throw new UnsupportedFunctionalityError({
      functionality: 'several pictures',
      message: `${files.length} pictures are given; one is varied at a time`,
    });
  }
  try {
    return await readImages([bytesOf(files[0])], side, { signal });
  } catch (error) {
    if (signal?.aborted || !DetailFlowError.isInstance(error)) throw error;
    throw new InvalidArgumentError({ argument: 'files', message: error.message, cause: error });
  }
}

const outOf = (argument: string, value: number, most: number) =>
  new InvalidArgumentError({ argument, message: `${argument} is ${value}; the model has ${most} tokens` });
