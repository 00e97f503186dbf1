// Holds the model, apart from the page's own thread.
import { createTokenModel, type GroupTokenModel, parseTokenModelConfig } from '@detailflow/ar-model';
import { createWebGPUBackend, type WebGPUBackend } from '@detailflow/backend-webgpu';
import { type Bundle, readBundle, urlTree } from '@detailflow/checkpoint';
import { DetailFlowError, pictureFromPixels, Tensor } from '@detailflow/core';
import { type GenerationStep, generate, vary } from '@detailflow/sampler';
import { createTokenizer, parseTokenizerConfig, type Tokenizer } from '@detailflow/tokenizer';
import type { Job, ModelFacts, Preview, Reply, Request } from './protocol';

interface Model {
  readonly backend: WebGPUBackend;
  readonly tokenizer: Tokenizer;
  readonly ar: GroupTokenModel;
}

const running = new Map<number, AbortController>();
let address = '';
let opened: Promise<{ model: Model; facts: ModelFacts }> | undefined;

const reply = (message: Reply) => {
  const transfer = message.kind === 'preview' ? message.preview.pictures.map(({ buffer }) => buffer) : [];
  self.postMessage(message, { transfer });
};

self.addEventListener('message', async ({ data }: MessageEvent<Request>) => {
  if (data.kind === 'load') {
    address = data.model;
    await open().then(
      ({ facts }) => reply({ kind: 'ready', facts }),
      (error: Error) => reply({ kind: 'unavailable', message: error.message }),
    );
  } else if (data.kind === 'cancel') running.get(data.id)?.abort(new DOMException('cancelled', 'AbortError'));
  else await run(data.id, data.job);
});

async function run(id: number, job: Job): Promise<void> {
  const control = new AbortController();
  running.set(id, control);
  const { signal } = control;
  const started = performance.now();
  const elapsed = () => performance.now() - started;
  try {
    const { model } = await open();
    for await (const preview of previews(model, job, signal)) {
      reply({ kind: 'preview', id, preview: { ...preview, elapsed: elapsed() } });
    }
    reply({ kind: 'done', id, elapsed: elapsed() });
  } catch (error) {
    const lost = DetailFlowError.isInstance(error) && error.code === 'device-lost';
    if (lost) opened = undefined; // the next job opens the model again
    const message = error instanceof Error ? error.message : String(error);
    reply({ kind: 'failed', id, message, isCancelled: signal.aborted });
  } finally {
    running.delete(id);
  }
}

type Drawn = Omit<Preview, 'elapsed'>;

async function* previews(
  { tokenizer, ar: model }: Model,
  job: Job,
  signal: AbortSignal,
): AsyncGenerator<Drawn> {
  if (job.kind === 'reconstruct') {
    yield* restore(tokenizer, job.pixels, signal);
    return;
  }
  const shared = { model, tokenizer, signal, seed: job.seed };
  const steps =
    job.kind === 'generate'
      ? generate({ ...shared, labels: job.labels, cfg: job.cfg })
      : vary(asImage(job.pixels, tokenizer.imageSize), {
          ...{ ...shared, keepTokens: job.keepTokens, count: job.count, cfg: 1 },
        });
  for await (const step of steps) yield { ...(await pictures(step)), count: step.count, total: step.total };
}

/** Encodes a picture, and draws it from ever more of its tokens. */
async function* restore(
  tokenizer: Tokenizer,
  pixels: Float32Array,
  signal: AbortSignal,
): AsyncGenerator<Drawn> {
  const { tokens: total, imageSize: size } = tokenizer;
  const codes = await tokenizer.encode(asImage(pixels, size), { signal });
  for (let count = 1; count <= total; count = count < 8 ? count + 1 : count + 8) {
    const drawn = await tokenizer.decode(codes, { tokens: count, signal });
    const full = await tokenizer.decode(codes, { tokens: count, size, signal });
    const values = full.data as Float32Array;
    const error = pixels.reduce((sum, x, i) => sum + (Math.max(-1, Math.min(1, values[i])) - x) ** 2, 0);
    const psnr = -10 * Math.log10(error / pixels.length / 4);
    yield { count, total, side: drawn.dims[2], pictures: [rgba(drawn, 0)], psnr };
  }
}

async function pictures(step: GenerationStep): Promise<Pick<Preview, 'side' | 'pictures'>> {
  const pixels = await step.pixels();
  const [batch, , side] = pixels.dims;
  return { side, pictures: Array.from({ length: batch }, (_, i) => rgba(pixels, i)) };
}

/** RGBA of a picture of a batch, in a buffer of its own. */
const rgba = (pixels: Tensor, i: number) => new Uint8ClampedArray(pictureFromPixels(pixels, i).data);

const asImage = (pixels: Float32Array, size: number) => new Tensor('float32', pixels, [1, 3, size, size]);

function open() {
  opened ??= load().catch((error) => {
    opened = undefined;
    throw error;
  });
  return opened;
}

async function load(): Promise<{ model: Model; facts: ModelFacts }> {
  reply({ kind: 'progress', text: 'Opening the graphics card ...' });
  const backend = await createWebGPUBackend();
  reply({ kind: 'progress', text: 'Loading the model ...' });
  const bundle: Bundle = await readBundle(urlTree(address, { wholeBelow: 32 * 2 ** 20 }));
  try {
    const { card } = bundle;
    if (!card.ar || !bundle.ar) throw new Error('the model has no AR part');
    const model: Model = {
      backend,
      tokenizer: createTokenizer({
        config: parseTokenizerConfig(card.tokenizer.config),
        weights: bundle.tokenizer,
        backend,
      }),
      ar: createTokenModel({ config: parseTokenModelConfig(card.ar.config), weights: bundle.ar, backend }),
    };
    reply({ kind: 'progress', text: 'Making the kernels ...' });
    await warmUp(model);
    const { name, description = '', attribution = '', classNames, recipe } = card;
    const { vendor, architecture } = backend.device.adapterInfo ?? {};
    const facts: ModelFacts = {
      ...{ name, description, attribution },
      classNames: classNames ?? Array.from({ length: model.ar.classes }, (_, i) => `class ${i}`),
      cfg: (recipe?.cfg as number | undefined) ?? 1.5,
      imageSize: model.tokenizer.imageSize,
      tokens: model.tokenizer.tokens,
      adapter: [vendor, architecture].filter(Boolean).join(' ') || 'WebGPU',
    };
    return { model, facts };
  } catch (error) {
    await backend.close();
    throw error;
  } finally {
    await bundle.close();
  }
}

/** Reads all weights and makes all kernels, so that the first picture does not wait for them. */
async function warmUp({ tokenizer, ar: model }: Model): Promise<void> {
  const { imageSize: size } = tokenizer;
  await tokenizer.encode(asImage(new Float32Array(3 * size * size), size));
  for await (const step of generate({ model, tokenizer, labels: [0], tokens: 1, cfg: 2 }))
    await step.pixels();
}
