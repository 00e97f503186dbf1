// Holds the model, apart from the page's own thread.
import { createTokenModel, type GroupTokenModel, parseTokenModelConfig } from '@detailflow/ar-model';
import { type Bundle, readBundle, urlTree } from '@detailflow/checkpoint';
import { type Backend, DetailFlowError, pictureFromPixels, Tensor } from '@detailflow/core';
import { psnr, tokenWorth, worthTarget } from '@detailflow/eval';
import { type GenerationStep, generate, vary } from '@detailflow/sampler';
import { createTokenizer, parseTokenizerConfig, type Tokenizer } from '@detailflow/tokenizer';
import { openBackend } from './open-backend';
import type { Job, ModelFacts, Preview, Reply, Request } from './protocol';
import { watchedFetch } from './watched-fetch';

interface Model {
  readonly backend: Backend;
  readonly isSlow: boolean;
  readonly tokenizer: Tokenizer;
  readonly ar: GroupTokenModel;
}

/** The large files of a bundle. */
const WEIGHTS = ['tokenizer.safetensors', 'ar.safetensors'];

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

async function* previews(opened: Model, job: Job, signal: AbortSignal): AsyncGenerator<Drawn> {
  const { tokenizer, ar: model } = opened;
  if (job.kind === 'reconstruct') {
    yield* restore(opened, job.pixels, signal);
    return;
  }
  const shared = { model, tokenizer, signal, seed: job.seed };
  const steps =
    job.kind === 'generate'
      ? generate({ ...shared, labels: job.labels, cfg: job.cfg })
      : vary(asImage(job.pixels, tokenizer.imageSize), {
          ...{ ...shared, keepTokens: job.keepTokens, count: job.count, cfg: 1 },
        });
  for await (const step of steps) {
    const { count, total } = step;
    if (isShown(opened, count)) yield { ...(await pictures(step)), count, total };
    await messages();
  }
}

/** Which previews are drawn: all, or where that takes long those of 1, 2, 4, ... tokens. */
const isShown = ({ isSlow, tokenizer }: Model, count: number): boolean =>
  !isSlow || count === tokenizer.tokens || Number.isInteger(Math.log2(count));

/** Lets messages in, such as the wish to cancel: a backend that computes on this thread leaves no time for them. */
const messages = () => new Promise<void>((resolve) => setTimeout(resolve));

/** Encodes a picture, and draws it from ever more of its tokens. */
async function* restore(opened: Model, pixels: Float32Array, signal: AbortSignal): AsyncGenerator<Drawn> {
  const { tokenizer } = opened;
  const { tokens: total, imageSize: size } = tokenizer;
  const original = asImage(pixels, size);
  const codes = await tokenizer.encode(original, { signal });
  for (let count = 1; count <= total; count = count < 8 ? count + 1 : count + 8) {
    await messages();
    if (!isShown(opened, count)) continue;
    const worth = tokenWorth(tokenizer, count, size);
    const drawn = await tokenizer.decode(codes, { tokens: count, size: worth.size, signal });
    // Measured is what is shown, against the picture shrunk to what so many tokens are worth.
    const decibels = psnr(drawn.data, worthTarget(original, worth).data);
    yield { count, total, side: worth.size, pictures: [rgba(drawn, 0)], psnr: decibels };
  }
}

async function pictures(step: GenerationStep): Promise<Pick<Preview, 'side' | 'pictures'>> {
  const pixels = await step.pixels();
  const [batch, , side] = pixels.dims;
  return { side, pictures: Array.from({ length: batch }, (_, i) => rgba(pixels, i)) };
}

/** RGBA of a picture of a batch, in a buffer of its own. */
const rgba = (pixels: Tensor<'float32'>, i: number) =>
  new Uint8ClampedArray(pictureFromPixels(pixels, i).data);

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
  const { backend, device, isSlow, note } = await openBackend();
  reply({ kind: 'progress', text: 'Loading the model ...' });
  const get = await watchedFetch(
    WEIGHTS.map((name) => new URL(name, address).href),
    (share, total) =>
      reply({ kind: 'progress', text: `Loading the model (${(total / 1e6).toFixed(1)} MB) ...`, share }),
  );
  const bundle: Bundle = await readBundle(urlTree(address, { wholeBelow: 32 * 2 ** 20, fetch: get }));
  try {
    const { card } = bundle;
    if (!card.ar || !bundle.ar) throw new Error('the model has no AR part');
    const model: Model = {
      ...{ backend, isSlow },
      tokenizer: createTokenizer({
        config: parseTokenizerConfig(card.tokenizer.config),
        weights: bundle.tokenizer,
        backend,
      }),
      ar: createTokenModel({ config: parseTokenModelConfig(card.ar.config), weights: bundle.ar, backend }),
    };
    reply({ kind: 'progress', text: 'Reading the weights ...' });
    await warmUp(model);
    const { name, description = '', attribution = '', recipe } = card;
    const classNames = card.classNames ?? Array.from({ length: model.ar.classes }, (_, i) => `class ${i}`);
    const facts: ModelFacts = {
      ...{ name, description, attribution, classNames, device, note },
      subject: card.subject ?? classNames.slice(0, 12).join(', '),
      background: typeof card.data?.background === 'string' ? card.data.background : 'white',
      cfg: recipe?.cfg ?? 1.5,
      imageSize: model.tokenizer.imageSize,
      tokens: model.tokenizer.tokens,
    };
    return { model, facts };
  } catch (error) {
    await backend.close();
    throw error;
  } finally {
    await bundle.close();
  }
}

/** Reads all weights, so that the files can be closed, and makes all kernels. */
async function warmUp({ tokenizer, ar: model }: Model): Promise<void> {
  const { imageSize: size } = tokenizer;
  await tokenizer.encode(asImage(new Float32Array(3 * size * size), size));
  for await (const step of generate({ model, tokenizer, labels: [0], tokens: 1, cfg: 2 }))
    await step.pixels();
}
