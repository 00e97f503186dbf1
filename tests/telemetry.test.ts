import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { fashion, inRepository } from './cli';

/** ONNX Runtime's telemetry writes under the home folder: nothing of ours may lead there. */

let room: string;
beforeEach(() => {
  room = mkdtempSync(path.join(tmpdir(), 'telemetry-'));
  for (const name of ['home', 'tmp', 'cwd', 'out']) mkdirSync(path.join(room, name));
});
afterEach(() => rmSync(room, { recursive: true }));

interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
  /** Files and folders that were not there before, outside the output folder. */
  readonly strays: string[];
}

/** ONNX Runtime is silent by itself where one of these is set, as continuous integration does. */
const integration =
  'CI TF_BUILD GITHUB_ACTIONS GITLAB_CI CIRCLECI TRAVIS JENKINS_URL CODEBUILD_BUILD_ID BUILDKITE TEAMCITY_VERSION APPVEYOR BITBUCKET_BUILD_NUMBER';
const left = new Set(['ORT_DISABLE_TELEMETRY', 'XDG_CACHE_HOME', ...integration.split(' ')]);

/** Runs Node with folders of its own for home, temporary files and work, as if a person had started it. */
function run(args: readonly string[], environment: Record<string, string> = {}): Promise<Outcome> {
  const inherited = Object.fromEntries(Object.entries(process.env).filter(([name]) => !left.has(name)));
  const folders = { HOME: path.join(room, 'home'), TMPDIR: path.join(room, 'tmp') };
  const env = { ...inherited, ...folders, ...environment };
  const child = spawn(process.execPath, args, { env, cwd: path.join(room, 'cwd') });
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (data) => (stdout += data));
  child.stderr.on('data', (data) => (stderr += data));
  return new Promise((resolve) => {
    child.on('close', (code) => {
      const strays = ['home', 'tmp', 'cwd'].flatMap((name) =>
        readdirSync(path.join(room, name), { recursive: true }).map((file) => `${name}/${file}`),
      );
      resolve({ code, stdout, stderr, strays });
    });
  });
}

const generate = (...more: string[]) => [
  inRepository('packages/detailflow/dist/cli.js'),
  ...['generate', ...fashion, '--class', '1', '--threads', '1', '--out', path.join(room, 'out/a.png')],
  ...more,
];

const api = (after: string) => `
  import { load } from ${JSON.stringify(inRepository('packages/detailflow/dist/index.js'))};
  const model = await load(${JSON.stringify(fashion[1])});
  for await (const step of model.generate({ labels: [1] })) if (step.count === step.total) await step.pixels();
  await model.dispose();
  ${after}
`;

/** A program whose worker thread uses the API. */
function inWorker(): string {
  const [thread, main] = ['thread.mjs', 'main.mjs'].map((name) => path.join(room, 'out', name));
  writeFileSync(thread, api(''));
  writeFileSync(main, `import { Worker } from 'node:worker_threads'; new Worker(${JSON.stringify(thread)});`);
  return main;
}

function inMainThread(): string {
  const main = path.join(room, 'out', 'main.mjs');
  writeFileSync(main, api('console.log(process.env.ORT_DISABLE_TELEMETRY);'));
  return main;
}

const quiet = { code: 0, stderr: '', strays: [] };

test('generate through the command line leaves nothing but its picture', async () => {
  expect(await run(generate())).toMatchObject(quiet);
  expect(readdirSync(path.join(room, 'out'))).toEqual(['a.png']);
});

test('--device auto, which tries devices in child processes, leaves nothing', async () => {
  expect(await run(generate('--device', 'auto'))).toMatchObject({ code: 0, strays: [] });
});

test('the API leaves nothing, in the main thread or in a worker thread', async () => {
  expect(await run([inMainThread()])).toMatchObject({ ...quiet, stdout: '1\n' });
  expect(await run([inWorker()])).toMatchObject(quiet);
});

test.each(['/dev/null', '/proc/nowhere'])('with %s as home nothing is said', async (home) => {
  expect(await run(generate(), { HOME: home })).toMatchObject(quiet);
  expect(await run([inWorker()], { HOME: home })).toMatchObject(quiet);
});

test('whoever set the variable himself has his way', async () => {
  const environment = { ORT_DISABLE_TELEMETRY: '0' };
  const { strays, stdout } = await run([inMainThread()], environment);
  expect(stdout).toBe('0\n');
  const inThread = await run([inWorker()], environment);
  // Where the runtime has telemetry of this kind, these are the files that the tests above look for.
  if (process.platform !== 'linux' || process.arch !== 'x64') return;
  for (const found of [strays, inThread.strays]) expect(found.join()).toMatch(/home\/.*onnxruntime/);
});
