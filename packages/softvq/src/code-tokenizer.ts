import {
  type CallOptions,
  checkOptions,
  DetailFlowError,
  type ImageTokenizer,
  LazyExecutable,
  ofType,
  requireTensor,
  resizeImages,
  Tensor,
} from '@detailflow/core';
import { LARGEST_IMAGE } from './config';
import { codeLatentsGraph } from './graphs';
import { SoftVqTokenizer, type SoftVqTokenizerOptions } from './latent-tokenizer';

/** Loads a tokenizer of the kind `vq`. @throws DetailFlowError `unsupported` for the other kinds, which have no codes */
export function createCodeTokenizer(options: SoftVqTokenizerOptions): CodeTokenizer {
  const { kind } = options.config;
  if (kind === 'vq') return new CodeTokenizer(options);
  const why = kind === 'soft' ? ': each latent is a mixture of them' : '';
  throw new DetailFlowError(
    'unsupported',
    `a tokenizer of the kind "${kind}" has no codes to hand out${why}; use its latents (createSoftVqTokenizer)`,
    { file: options.file },
  );
}

/** The kind `vq`: latents that are codes, so it is an image tokenizer as well. */
export class CodeTokenizer extends SoftVqTokenizer implements ImageTokenizer {
  readonly previews = 'none';
  readonly #codeLatents: LazyExecutable;

  /** @throws DetailFlowError `weights` when the weights do not fit the configuration */
  constructor(options: SoftVqTokenizerOptions) {
    super(options);
    const { backend, config, weights } = options;
    this.#codeLatents = new LazyExecutable(() => backend.compile(codeLatentsGraph(config), weights));
  }

  get codebookSize(): number {
    return this.config.codebookSize;
  }

  resolution(_tokens: number): number {
    return this.imageSize;
  }

  /** Images float32 [B, 3, S, S] in [-1, 1] -> codes int32 [B, L]; `tokens`: only the first so many. */
  async encode(
    images: Tensor<'float32'>,
    options: CallOptions & { tokens?: number } = {},
  ): Promise<Tensor<'int32'>> {
    checkOptions('encode', options, { signal: true, tokens: true });
    const { signal, tokens = this.tokens } = options;
    if (!Number.isInteger(tokens) || tokens < 1 || tokens > this.tokens) {
      throw new DetailFlowError('invalid-argument', `tokens is ${tokens}; give 1 to ${this.tokens}`);
    }
    const found = await this.encodeAll(images, { signal });
    const codes = ofType(found.codes, 'int32');
    if (tokens === this.tokens) return codes;
    const [batch, all] = codes.dims;
    const out = new Int32Array(batch * tokens);
    for (let b = 0; b < batch; b++) out.set(codes.data.subarray(b * all, b * all + tokens), b * tokens);
    return new Tensor('int32', out, [batch, tokens]);
  }

  /**
   * Codes int32 [B, L] -> images float32 [B, 3, R, R], about [-1, 1]. Codes have no order, so nothing is drawn of a part of
   * them. `size` R: the picture is resized, bicubic.
   */
  async decode(
    codes: Tensor<'int32'>,
    options: CallOptions & { tokens?: number; size?: number } = {},
  ): Promise<Tensor<'float32'>> {
    checkOptions('decode', options, { signal: true, tokens: true, size: true });
    const { signal, size = this.imageSize } = options;
    signal?.throwIfAborted();
    this.#requireCodes(codes, options.tokens);
    if (!Number.isInteger(size) || size < 1 || size > LARGEST_IMAGE) {
      throw new DetailFlowError('invalid-argument', `size is ${size}; give 1 to ${LARGEST_IMAGE} pixels`);
    }
    const executable = await this.#codeLatents.get();
    const { latents } = await executable.run({ codes }, { signal });
    const pixels = await this.decodeLatents(ofType(latents, 'float32'), { signal });
    if (size === this.imageSize) return pixels;
    const resized = resizeImages(pixels.data, pixels.dims, { height: size, width: size }, 'bicubic');
    return new Tensor('float32', resized, [pixels.dims[0], 3, size, size]);
  }

  override async dispose(): Promise<void> {
    await this.#codeLatents.dispose();
    await super.dispose();
  }

  #requireCodes(codes: Tensor<'int32'>, tokens = this.tokens): void {
    const must = `int32 [B, ${this.tokens}]: a picture needs all codes`;
    requireTensor(codes, { what: 'the codes', must, type: 'int32', axes: 2 });
    if (codes.dims[0] === 0 || codes.dims[1] !== this.tokens) {
      throw new DetailFlowError('shape', `the codes are int32 [${codes.dims}]; give ${must}`);
    }
    if (tokens !== this.tokens) {
      throw new DetailFlowError(
        'invalid-argument',
        `tokens is ${tokens}; a picture needs all ${this.tokens} codes, which have no order`,
      );
    }
    const { codebookSize } = this.config;
    const wrong = codes.data.find((code) => code < 0 || code >= codebookSize);
    if (wrong !== undefined) {
      throw new DetailFlowError('invalid-argument', `the code ${wrong} is not in 0..${codebookSize - 1}`);
    }
  }
}
