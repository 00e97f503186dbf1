import { readFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { cli, fashion, pixels, testFolder } from './cli';
import { webgpuMissing } from './devices';

const at = testFolder();

/** Where a package of that name is not installed. */
const without = (name: string) => {
  const hooks = `export const resolve = (one, context, next) => {
    if (one === '${name}') throw Object.assign(new Error('Cannot find package'), { code: 'ERR_MODULE_NOT_FOUND' });
    return next(one, context);
  };`;
  const register = `import { register } from 'node:module';
    register('data:text/javascript,' + ${JSON.stringify(encodeURIComponent(hooks))});`;
  return ['--import', `data:text/javascript,${encodeURIComponent(register)}`];
};

async function run(args: readonly string[], node: readonly string[] = []): Promise<string> {
  const { code, stderr } = await cli(args, { node });
  expect(code, stderr).toBe(0);
  return stderr;
}

/** The most that two pictures differ by, of 255. */
async function difference(a: string, b: string): Promise<number> {
  const [one, other] = [await pixels(at(a)), await pixels(at(b))];
  return Math.max(...one.data.map((value: number, i: number) => Math.abs(value - other.data[i])));
}

describe.skipIf(webgpuMissing !== undefined)('--device webgpu', () => {
  const notice = /WebGPU by ONNX Runtime: install @detailflow\/backend-webgpu and webgpu beside detailflow/;
  const draw = (name: string, ...more: string[]) => [
    ...['generate', ...fashion, '--class', '3', '--seed', '5', '--out', at(name), ...more],
  ];

  test('draws what the CPU draws: with the own backend, and with ONNX Runtime where that is not installed', async () => {
    await run(draw('cpu.png'));
    expect(await run(draw('own.png', '--device', 'webgpu'))).not.toMatch(/WebGPU/);
    expect(await difference('own.png', 'cpu.png')).toBeLessThanOrEqual(1);
    for (const [i, missing] of ['webgpu', '@detailflow/backend-webgpu'].entries()) {
      expect(await run(draw(`${i}.png`, '--device', 'webgpu'), without(missing))).toMatch(notice);
      expect(await difference(`${i}.png`, 'cpu.png')).toBeLessThanOrEqual(1);
    }
  });

  test('rounded matrices are computed by ONNX Runtime, which knows them', async () => {
    expect(await run(draw('q8.png', '--device', 'webgpu', '--dtype', 'q8'))).not.toMatch(/fp32/);
    await run(draw('q8-cpu.png', '--dtype', 'q8'));
    expect((await pixels(at('q8.png'))).width).toBe((await pixels(at('q8-cpu.png'))).width);
  });

  test('matrices in halves are computed by the own backend, and nowhere else', async () => {
    const few = ['--device', 'webgpu', '--tokens', '4'];
    expect(await run(draw('fp16.png', ...few, '--dtype', 'fp16'))).not.toMatch(/ONNX Runtime/);
    expect((await pixels(at('fp16.png'))).width).toBeGreaterThan(0);
    for (const device of [[], ['--device', 'cpu'], ['--device', 'auto']]) {
      const { code, stderr } = await cli(draw('never.png', '--dtype', 'fp16', ...device));
      expect([code, stderr]).toEqual([2, expect.stringContaining('--dtype fp16 is for --device webgpu')]);
    }
    const { code, stderr } = await cli(draw('never.png', '--device', 'webgpu', '--dtype', 'fp16'), {
      node: without('webgpu'),
    });
    expect([code, stderr]).toEqual([1, expect.stringContaining('fp16 is for @detailflow/backend-webgpu')]);
  });

  test('trains and makes codes as the CPU does', async () => {
    const train = (out: string, part: string, ...more: string[]) => [
      ...['train', part, '--config', 'tiny-32', '--data', 'shapes:24', '--out', at(out), ...more],
      ...['steps=1', 'batch=8', 'warmup=0'].flatMap((one) => ['--set', `tokenizer.${one}`]),
      ...['--set', 'data.views=center', '--set', 'replicas=1', '--set', 'validation.images=4'],
    ];
    const figures = async (out: string) =>
      (await readFile(at(`${out}/tokenizer/log.jsonl`), 'utf8'))
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line));
    await run(train('cpu', 'tokenizer'));
    await run(train('gpu', 'tokenizer', '--device', 'webgpu'));
    const [cpu, gpu] = [await figures('cpu'), await figures('gpu')];
    const losses = (rows: { loss?: number }[]) =>
      rows.flatMap(({ loss }) => (loss === undefined ? [] : [loss]));
    expect(losses(cpu)).not.toEqual([]);
    expect(losses(gpu)).toHaveLength(losses(cpu).length);
    for (const [i, loss] of losses(gpu).entries()) expect(loss).toBeCloseTo(losses(cpu)[i], 3);
    await run(train('gpu', 'codes', '--device', 'webgpu'), without('webgpu'));
    const { tokens } = JSON.parse(await readFile(at('gpu/codes/codes.json'), 'utf8'));
    expect(tokens).toBe(64);
  });
});
