import { cpSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { golden } from './golden';
import { environment, type PackedPackages, packPackages, run } from './packed-packages';
import { expectPictures, readmeBlocks, readmeProgram, runInOrder, smaller } from './readme-commands';

// Packs every package and installs the tarballs into empty projects outside the repository, as a user gets them.
// Needs the npm registry.

const root = fileURLToPath(new URL('..', import.meta.url));
const compiler = path.join(root, 'node_modules', 'typescript', 'bin', 'tsc');
let packed: PackedPackages;
beforeAll(async () => {
  packed = await packPackages();
});
afterAll(() => packed.remove());

/** What of ours is installed. */
const installed = (place: string): string[] =>
  readdirSync(path.join(place, 'node_modules', '@detailflow')).sort();

/** The packages of ours that one needs, and those that they need. */
function neededBy(name: string, found = new Set<string>()): string[] {
  const folder = path.join(root, 'packages', name, 'package.json');
  const { dependencies = {} } = JSON.parse(readFileSync(folder, 'utf8'));
  for (const needed of Object.keys(dependencies).filter((one) => one.startsWith('@detailflow/'))) {
    const short = needed.replace('@detailflow/', '');
    if (found.has(short)) continue;
    found.add(short);
    neededBy(short, found);
  }
  return [...found];
}

/** Type-checks a program as strictly as TypeScript can, declarations of all packages included. */
async function typeCheck(place: string, code: string): Promise<void> {
  writeFileSync(path.join(place, 'types.ts'), code);
  for (const module of ['esnext', 'node16', 'nodenext']) {
    const resolution = module === 'esnext' ? 'bundler' : module;
    await run(
      place,
      process.execPath,
      compiler,
      ...['--noEmit', '--strict', '--skipLibCheck', 'false', '--target', 'es2022'],
      ...['--module', module, '--moduleResolution', resolution, 'types.ts'],
    );
  }
}

test('core, tokenizer and a backend encode and decode', async () => {
  const place = await packed.project(
    'pieces',
    '@detailflow/core',
    '@detailflow/tokenizer',
    '@detailflow/backend-node',
  );
  expect(installed(place)).toEqual(['backend-node', 'blocks', 'core', 'onnx', 'tokenizer']);
  cpSync(path.join(root, 'tests/fixtures/golden/A'), path.join(place, 'golden'), { recursive: true });

  const program = `
    import { readFile } from 'node:fs/promises';
    import { createNodeBackend } from '@detailflow/backend-node';
    import { bytesSource, readFloat32, readSafetensors, Tensor } from '@detailflow/core';
    import { createTokenizer, officialTokenizerConfig } from '@detailflow/tokenizer';

    const json = async (file) => JSON.parse(await readFile(file, 'utf8'));
    const safetensors = async (file) => await readSafetensors(bytesSource(await readFile(file)));
    const weights = await safetensors('golden/tokenizer/model.safetensors');
    const config = officialTokenizerConfig({
      config: await json('golden/tokenizer/config.json'),
      vision: await json('golden/tokenizer/siglip2_vision.json'),
      weights,
    });
    const recorded = (await safetensors('golden/golden_tokenizer.safetensors')).get('images');
    const backend = await createNodeBackend();
    const tokenizer = createTokenizer({ config, weights, backend });
    const images = new Tensor('float32', await readFloat32(recorded), recorded.shape);
    const codes = await tokenizer.encode(images);
    const pixels = await tokenizer.decode(codes);
    console.log(JSON.stringify({ codes: [...codes.data], pixels: [...pixels.data] }));
    await backend.close();
  `;
  writeFileSync(path.join(place, 'program.js'), program);
  const { codes, pixels } = JSON.parse(await run(place, process.execPath, 'program.js'));
  const values = golden('A/golden_tokenizer.safetensors');
  expect(codes).toEqual([...values['enc.indices'].data]);
  expect(pixels.length).toBe(values.images.data.length);

  await typeCheck(
    place,
    `import { createNodeBackend } from '@detailflow/backend-node';
    import { type Backend, Tensor } from '@detailflow/core';
    import { conformanceCases } from '@detailflow/core/conformance';
    import { createTokenizer, type TokenizerConfig } from '@detailflow/tokenizer';

    export const backend: Backend = await createNodeBackend({ device: 'cpu' });
    export async function roundTrip(config: TokenizerConfig, images: Tensor<'float32'>): Promise<Tensor<'float32'>> {
      const tokenizer = createTokenizer({ config, weights: new Map(), backend });
      return tokenizer.decode(await tokenizer.encode(images));
    }
    export const cases: number = conformanceCases.length;
    // @ts-expect-error: a misspelt device
    await createNodeBackend({ device: 'cpuu' });`,
  );
});

test('detailflow alone generates, from the command line and from a program', async () => {
  const place = await packed.project('whole', 'detailflow');
  expect(installed(place)).toEqual(neededBy('detailflow').sort());

  const model = path.join(root, 'tests/fixtures/fashion-ref');
  await run(
    place,
    'npx',
    '--no',
    'detailflow',
    'generate',
    '--model',
    model,
    '--class',
    '9',
    '--out',
    'boot.png',
  );
  expect(await sharp(path.join(place, 'boot.png')).metadata()).toMatchObject({
    format: 'png',
    width: 32,
    height: 32,
  });

  const { version } = JSON.parse(readFileSync(path.join(root, 'packages/detailflow/package.json'), 'utf8'));
  expect(await run(place, 'npx', 'detailflow', '--version')).toBe(`${version}\n`);

  const program = `
    import { writeFile } from 'node:fs/promises';
    import { load } from 'detailflow';

    const model = await load(process.argv[2]);
    for await (const step of model.generate({ labels: [9] })) {
      if (step.count === step.total) await writeFile('again.png', await (await step.image()).toPng());
    }
    await model.dispose();
  `;
  writeFileSync(path.join(place, 'program.js'), program);
  await run(place, process.execPath, 'program.js', model);
  const picture = (file: string) => sharp(path.join(place, file)).raw().toBuffer();
  expect((await picture('again.png')).equals(await picture('boot.png'))).toBe(true);

  await typeCheck(
    place,
    `import { load, type Model } from 'detailflow';

    export const model: Model = await load('model');
    for await (const step of model.generate({ labels: [9], signal: AbortSignal.timeout(1000) })) {
      const bytes: Uint8Array = await (await step.image()).toPng();
      console.log(step.count, bytes.length);
    }
    // @ts-expect-error: no such option
    model.generate({ label: 9 });`,
  );
});

test('the README in its order: install, program, commands, a small training', async () => {
  const blocks = readmeBlocks();
  const [install] = blocks.find(({ place }) => place === 'a project')?.commands ?? [];
  const named = Object.keys(packed.tarballs).filter((name) => install.split(' ').includes(name));
  expect(named).toEqual(expect.arrayContaining(['detailflow', '@detailflow/model-fashion-32']));
  const place = packed.emptyProject('readme', named);
  const fromTarballs = install
    .split(' ')
    .map((word) => (named.includes(word) ? `${word}@file:${packed.tarballs[word]}` : word));
  // As where the CUDA libraries cannot be downloaded: nothing but the line itself may keep them away.
  const { ONNXRUNTIME_NODE_INSTALL: _, ...shell } = environment;
  await runInOrder([fromTarballs.join(' ')], place, shell);
  writeFileSync(path.join(place, 'program.js'), readmeProgram());
  await runInOrder([`${process.execPath} program.js`], place, shell);
  for (const { place: where, commands } of blocks) {
    if (where === 'both') {
      await runInOrder(commands, place, shell);
      await expectPictures(commands, place);
    }
    if (where === 'both, with a small configuration') {
      await runInOrder(smaller(commands, place), place, shell);
    }
  }
  writeFileSync(path.join(place, 'required.cjs'), `console.log(typeof require('detailflow').load);`);
  expect(await run(place, process.execPath, 'required.cjs')).toBe('function\n');
});

test('a consumer that is bundled: with packages left outside it draws, otherwise it is refused with the setting', async () => {
  const place = await packed.project('bundled', 'detailflow', '@detailflow/model-fashion-32');
  const program = `
    import { modelUrl } from '@detailflow/model-fashion-32';
    import { load } from 'detailflow';

    const model = await load(process.argv[2] ?? modelUrl);
    for await (const step of model.generate({ labels: [9], tokens: 2 })) {
      if (step.count === step.total) console.log(String((await step.tokens()).data));
    }
    await model.dispose();
  `;
  writeFileSync(path.join(place, 'program.js'), program);
  const bundle = (out: string, ...flags: string[]) =>
    run(
      root,
      'npx',
      '--no',
      'esbuild',
      path.join(place, 'program.js'),
      '--bundle',
      '--platform=node',
      '--format=esm',
      `--outfile=${path.join(place, out)}`,
      ...flags,
    );

  await bundle('outside.js', '--packages=external');
  expect(await run(place, process.execPath, 'outside.js')).toBe(
    await run(place, process.execPath, 'program.js'),
  );

  const native = ['--external:onnxruntime-node', '--external:sharp'];
  await bundle('dynamic.js', ...native);
  await expect(run(place, process.execPath, 'dynamic.js')).rejects.toThrow(
    /Dynamic require of .* is not supported/,
  );
  const banner =
    "import { createRequire as requireOf } from 'node:module'; const require = requireOf(import.meta.url);";
  await bundle('half.js', ...native, `--banner:js=${banner}`);
  const model = path.join(root, 'tests/fixtures/fashion-ref');
  await expect(run(place, process.execPath, 'half.js', model)).rejects.toThrow(
    /was bundled into another file.*esbuild: --packages=external.*Next\.js: serverExternalPackages/,
  );
});
