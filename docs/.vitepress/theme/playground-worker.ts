// Runs a program of the playground against the model in the box, apart from the page's own thread.
import * as arModel from '@detailflow/ar-model';
import * as checkpoint from '@detailflow/checkpoint';
import * as core from '@detailflow/core';
import * as sampler from '@detailflow/sampler';
import * as tokenizers from '@detailflow/tokenizer';
import { openBackend } from '../../../examples/browser/src/open-backend';
import { runnable } from './playground-code';
import type { PlaygroundReply, PlaygroundRequest } from './playground-protocol';

const reply = (message: PlaygroundReply) => self.postMessage(message);
const line = (...values: unknown[]) => reply({ kind: 'line', text: values.map(asText).join(' ') });

const asText = (value: unknown): string =>
  typeof value === 'string' ? value : value instanceof Error ? value.message : JSON.stringify(value);

self.addEventListener('message', async ({ data }: MessageEvent<PlaygroundRequest>) => {
  try {
    await run(data);
    reply({ kind: 'end' });
  } catch (error) {
    reply({ kind: 'end', error: error instanceof Error ? error.message : String(error) });
  }
});

async function run({ code, model: address }: PlaygroundRequest): Promise<void> {
  line('Loading the model ...');
  const { backend, device, note } = await openBackend();
  const bundle = await checkpoint.readBundle(checkpoint.urlTree(address, { wholeBelow: 32 * 2 ** 20 }));
  const { card } = bundle;
  if (!card.ar || !bundle.ar) throw new Error('the model has no AR part');
  const tokenizer = tokenizers.createTokenizer({
    config: tokenizers.parseTokenizerConfig(card.tokenizer.config),
    weights: bundle.tokenizer,
    backend,
  });
  const model = arModel.createTokenModel({
    config: arModel.parseTokenModelConfig(card.ar.config),
    weights: bundle.ar,
    backend,
  });
  line(`${card.name}, on ${device}. ${note}`);
  const modules: Record<string, object> = {
    ...{ '@detailflow/core': core, '@detailflow/sampler': sampler, '@detailflow/tokenizer': tokenizers },
    ...{ '@detailflow/ar-model': arModel, '@detailflow/checkpoint': checkpoint },
    playground: { model, tokenizer, backend, card, show },
  };
  const AsyncFunction = (async () => {}).constructor as FunctionConstructor;
  await new AsyncFunction('modules', 'console', runnable(code, Object.keys(modules)))(modules, {
    ...{ log: line, warn: line, error: line, info: line },
  });
  await bundle.close();
  await backend.close();
}

/** Shows pictures float32 [B, 3, S, S] in [-1, 1] below the program. */
function show(pixels: core.Tensor<'float32'>): void {
  for (let i = 0; i < pixels.dims[0]; i++) {
    const { data, width } = core.pictureFromPixels(pixels, i);
    reply({ kind: 'picture', data: new Uint8ClampedArray(data), side: width });
  }
}
