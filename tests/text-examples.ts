import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { writeNpz } from '@detailflow/data';
import OpenAI from 'openai';
import sharp from 'sharp';
import { expect, test } from 'vitest';
import { cliJson, inRepository, pixels, testFolder } from './cli';
import { t5Features, t5Tokens } from './t5-folder';

const file = (name: string) => inRepository(`tests/fixtures/golden/family/llamagen/${name}`);
const [vq, gpt] = [file('vq/vq_ds4_P.pt'), file('gpt_t2i/t2i_P.pt')];
const PLACES = 6;
/** Features of a token of the small model, which has six places for a text. */
export const WIDTH = 20;

const url = (source: string) => `data:text/javascript,${encodeURIComponent(source)}`;

/** Tests examples/text-to-image.ts and text-encoder.mjs with a small model; `library` is the address of the module that stands for transformers.js. */
export function testTextExamples(library: () => string): void {
  const at = testFolder();
  const register = () => {
    const hooks = `export const resolve = (one, context, next) =>
      one === '@huggingface/transformers'
        ? { url: ${JSON.stringify(library())}, format: 'module', shortCircuit: true }
        : next(one, context);`;
    return url(`import { register } from 'node:module'; register(${JSON.stringify(url(hooks))});`);
  };
  const draw = (...args: string[]) =>
    promisify(execFile)(
      process.execPath,
      [
        ...['--import', import.meta.resolve('tsx'), '--import', register()],
        ...[inRepository('examples/text-to-image.ts'), ...args],
      ],
      { cwd: at('.') },
    );

  test('draws what the command line draws for the same features', async () => {
    await draw(vq, gpt, 'fox');
    const found = await pixels(at('text-to-image.png'));
    const tokens = t5Tokens('fox');
    const rows = Array.from({ length: PLACES }, (_, i) => tokens[i] ?? 0);
    const features = Float32Array.from(
      rows.flatMap((token, i) => t5Features(token, WIDTH).map((x) => (i < tokens.length ? x : 0))),
    );
    const mask = Uint8Array.from(rows, (_, i) => (i < tokens.length ? 1 : 0));
    const arrays = {
      features: { data: features, shape: [1, PLACES, WIDTH] },
      mask: { data: mask, shape: [1, PLACES] },
    };
    writeFileSync(at('fox.npz'), writeNpz(arrays));
    const model = ['--tokenizer', vq, '--ar', gpt, '--seed', '0'];
    await cliJson('generate', ...model, '--text-features', at('fox.npz'), '--out', at('fox.png'));
    const expected = await pixels(at('fox.png'));
    expect([found.width, found.height]).toEqual([expected.width, expected.height]);
    expect(found.data).toEqual(expected.data);
    await draw(vq, gpt, 'owl');
    expect((await pixels(at('text-to-image.png'))).data).not.toEqual(expected.data);
  });

  test('a model for classes is refused by name', async () => {
    const c2i = file('gpt_c2i/c2i_P.pt');
    expect(readFileSync(c2i).length).toBeGreaterThan(1000);
    await expect(draw(vq, c2i)).rejects.toMatchObject({
      stderr: expect.stringContaining('draws for classes'),
    });
  });

  test('text-encoder: the command serves texts with it, and draws what the other example draws', async () => {
    await draw(vq, gpt, 'fox');
    const expected = await pixels(at('text-to-image.png'));
    const child = spawn(
      process.execPath,
      [
        ...['--import', register(), inRepository('packages/detailflow/dist/cli.js'), 'serve', '--port', '0'],
        ...['--tokenizer', vq, '--ar', gpt, '--text-encoder', inRepository('examples/text-encoder.mjs')],
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    const closed = once(child, 'close');
    const url = await new Promise<string>((resolve, reject) => {
      let found = '';
      createInterface({ input: child.stdout }).on('line', (line) => {
        const entry = JSON.parse(line);
        if (entry.event === 'listening') found = entry.url;
        if (entry.event === 'ready') resolve(found);
      });
      child.once('exit', (code) => reject(new Error(`it ended with ${code}`)));
    });
    const client = new OpenAI({ apiKey: 'any', baseURL: `${url}/v1`, maxRetries: 0 });
    for (const _ of ['encoded', 'kept']) {
      const { data } = await client.images.generate({ prompt: 'fox', ...{ seed: 0 } });
      const drawn = sharp(Buffer.from(data?.[0].b64_json ?? '', 'base64'));
      expect(await drawn.ensureAlpha().raw().toBuffer()).toEqual(
        await sharp(at('text-to-image.png')).ensureAlpha().raw().toBuffer(),
      );
    }
    expect(expected.width).toBe(16);
    child.kill('SIGTERM');
    expect((await closed)[0]).toBe(0);
  });
}
