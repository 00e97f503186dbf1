// Runs in a browser: the conformance suite, and golden values of the two small models, on WebGPU.
import { createTokenModel, officialTokenModelConfig } from '@detailflow/ar-model';
import { createWebGPUBackend, type WebGPUBackend } from '@detailflow/backend-webgpu';
import { bytesSource, openSafetensors, Tensor, type TensorType } from '@detailflow/core';
import {
  checkConformance,
  checkSharedState,
  conformanceCases,
  gradientCases,
} from '@detailflow/core/conformance';
import { sampleTokens } from '@detailflow/sampler';
import { createTokenizer, officialTokenizerConfig } from '@detailflow/tokenizer';

export interface SuiteResult {
  readonly passed: number;
  readonly failures: readonly string[];
}

declare global {
  interface Window {
    runSuite(): Promise<SuiteResult>;
  }
}

window.runSuite = async () => {
  const backend = await createWebGPUBackend();
  let passed = 0;
  const failures: string[] = [];
  const check = async (name: string, work: () => Promise<void>) => {
    try {
      await work();
      passed++;
    } catch (error) {
      failures.push(`${name}: ${(error as Error).message}`);
    }
  };
  await check('shared state', () => checkSharedState(backend));
  for (const one of [...conformanceCases, ...gradientCases]) {
    await check(one.name, () => checkConformance(backend, one));
  }
  for (const set of ['A', 'B']) {
    await checkTokenizer(set, backend, check);
    await checkTokenModel(set, backend, check);
  }
  await backend.close();
  return { passed, failures };
};

type Check = (name: string, work: () => Promise<void>) => Promise<void>;

async function checkTokenizer(set: string, backend: WebGPUBackend, check: Check): Promise<void> {
  const weights = await safetensors(`${set}/tokenizer/model.safetensors`);
  const values = await safetensors(`${set}/golden_tokenizer.safetensors`);
  const config = officialTokenizerConfig({
    config: await json(`${set}/tokenizer/config.json`),
    vision: await json(`${set}/tokenizer/siglip2_vision.json`),
    weights,
  });
  const tokenizer = createTokenizer({ config, weights, backend });
  await check(`${set}: codes`, async () => {
    const codes = await tokenizer.encode(await tensor<'float32'>(values, 'images'));
    requireEqual(codes.data, (await tensor(values, 'enc.indices')).data);
  });
  for (const name of [...values.keys()].filter((key) => /^dec\.t\d+\.r\d+$/.test(key))) {
    const [, tokens, size] = (/t(\d+)\.r(\d+)/.exec(name) as RegExpExecArray).map(Number);
    await check(`${set}: ${name}`, async () => {
      const codes = await tensor(values, 'enc.indices');
      const expected = await tensor(values, name);
      const first = (codes.data as Int32Array).slice(0, expected.dims[0] * codes.dims[1]);
      const given = new Tensor('int32', first, [expected.dims[0], codes.dims[1]]);
      requireClose((await tokenizer.decode(given, { tokens, size })).data, expected.data);
    });
  }
}

async function checkTokenModel(set: string, backend: WebGPUBackend, check: Check): Promise<void> {
  const weights = await safetensors(`${set}/ar/ema.safetensors`);
  const values = await safetensors(`${set}/golden_ar.safetensors`);
  const settings = ((await json(`${set}/golden.json`)) as { ar: Record<string, Record<string, number>> }).ar;
  const config = officialTokenModelConfig((await json(`${set}/ar/config.json`)) as object);
  const model = createTokenModel({ config, weights, backend });
  const labels = [...((await tensor(values, 'gen.labels')).data as Int32Array)];
  const noise = await tensor<'float32'>(values, 'gen.sampled.noise');
  const { cfg_scale: cfg, temperature, top_k: topK, top_p: topP } = settings.sampled;
  const runs = {
    'gen.greedy.tokens': { greedy: true, cfg: settings.greedy.cfg_scale },
    'gen.greedy_gradual.tokens': { greedy: true, cfg: settings.greedy.cfg_scale, guidance: 'gradual' },
    'gen.sampled.tokens': {
      noise,
      cfg,
      temperature,
      topK,
      topP,
      guidance: settings.sampled.gradual_cfg ? 'gradual' : 'constant',
    },
  };
  for (const [name, options] of Object.entries(runs)) {
    await check(`${set}: ${name}`, async () => {
      for await (const step of sampleTokens({ model, labels, ...options })) {
        if (step.count === step.total)
          requireEqual((await step.tokens()).data, (await tensor(values, name)).data);
      }
    });
  }
}

type Values = Awaited<ReturnType<typeof openSafetensors>>['weights'];

const bytes = async (path: string) => new Uint8Array(await (await fetch(`./${path}`)).arrayBuffer());
const json = async (path: string): Promise<object> => (await fetch(`./${path}`)).json();
const safetensors = async (path: string): Promise<Values> =>
  (await openSafetensors(bytesSource(await bytes(path), path))).weights;

async function tensor<T extends TensorType = TensorType>(values: Values, name: string): Promise<Tensor<T>> {
  const found = values.get(name);
  if (!found) throw new Error(`there is no ${name}`);
  const { buffer } = (await found.read()).slice();
  return (
    found.dtype === 'f32'
      ? new Tensor('float32', new Float32Array(buffer), [...found.shape])
      : new Tensor('int32', new Int32Array(buffer), [...found.shape])
  ) as Tensor<T>;
}

function requireEqual(actual: ArrayLike<unknown>, expected: ArrayLike<unknown>): void {
  const wrong = Array.from(expected).findIndex((value, i) => value !== actual[i]);
  if (actual.length !== expected.length || wrong >= 0) {
    throw new Error(`element ${wrong} is ${actual[wrong]}, must be ${expected[wrong]}`);
  }
}

function requireClose(actual: Tensor['data'], expected: Tensor['data']): void {
  const [a, b] = [actual as Float32Array, expected as Float32Array];
  const scale = b.reduce((most, x) => Math.max(most, Math.abs(x)), 1);
  const wrong = b.findIndex((x, i) => !(Math.abs(x - a[i]) <= 1e-4 * scale));
  if (a.length !== b.length || wrong >= 0)
    throw new Error(`element ${wrong} is ${a[wrong]}, must be ${b[wrong]}`);
}
