import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { exportOnnx, load, readNpy, Tensor } from 'detailflow';
import ort from 'onnxruntime-node';
import { afterAll, expect, test } from 'vitest';
import { inRepository } from './cli';

// docs/examples/generate.py, as docs/guide/onnx-python.md has it. DETAILFLOW_PYTHON names a Python with onnxruntime.

const script = inRepository('docs/examples/generate.py');
const folder = mkdtempSync(path.join(tmpdir(), 'detailflow-python-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** The first Python that has these modules. */
function pythonWith(...modules: string[]): string | undefined {
  const candidates = [process.env.DETAILFLOW_PYTHON, '/usr/bin/python3', 'python3', 'python'];
  return candidates.find((program) => {
    if (!program) return false;
    try {
      execFileSync(program, ['-c', `import ${modules.join(', ')}`], { stdio: 'ignore' });
      return true;
    } catch {
      return false;
    }
  });
}

const numpy = pythonWith('numpy');
const runtime = pythonWith('numpy', 'onnxruntime');
if (!runtime) {
  console.warn(
    `THE PYTHON OF THE GUIDE DRAWS NOTHING HERE: there is no Python with onnxruntime${numpy ? '; its inputs are checked' : ''}`,
  );
}

const model = '@detailflow/model-fashion-32';
const values = async (name: string) => readNpy(readFileSync(path.join(folder, `${name}.npy`)));

test.runIf(numpy)('its inputs are what the exported generator takes', async () => {
  const file = path.join(folder, 'fashion.onnx');
  await exportOnnx(model, file);
  execFileSync(numpy as string, [
    script,
    file,
    '--labels',
    '9,1',
    '--seed',
    '7',
    '--out',
    folder,
    '--prepare',
  ]);
  const session = await ort.InferenceSession.create(file, { logSeverityLevel: 3 });
  const feeds: Record<string, ort.Tensor> = {};
  for (const name of session.inputNames) {
    const { data, shape } = await values(name);
    feeds[name] = new ort.Tensor(data as Float32Array, shape);
  }
  const { tokens } = await session.run(feeds);
  await session.release();
  expect(tokens.dims).toEqual([2, 64]);
  expect([...(tokens.data as Int32Array)]).toEqual(await drawnHere());
});

test.runIf(runtime)('it draws the tokens that are drawn here', async () => {
  const file = path.join(folder, 'again.onnx');
  await exportOnnx(model, file);
  const env = { ...process.env, ORT_DISABLE_TELEMETRY: '1' };
  const args = [script, file, '--labels', '9,1', '--seed', '7', '--out', folder];
  const printed = execFileSync(runtime as string, args, { env, encoding: 'utf8' });
  expect(printed).toContain('2 pictures');
  expect([...((await values('tokens')).data as Int32Array)]).toEqual(await drawnHere());
});

/** The tokens of the sampler from the noise that the script has drawn. */
async function drawnHere(): Promise<number[]> {
  const { data, shape } = await values('noise');
  const noise = new Tensor('float32', data as Float32Array, shape);
  const opened = await load(model);
  let tokens: number[] = [];
  for await (const step of opened.generate({ labels: [9, 1], cfg: 2, noise })) {
    if (step.count === step.total) tokens = [...(await step.tokens()).data];
  }
  await opened.dispose();
  return tokens;
}
