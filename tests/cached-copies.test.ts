import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createNodeBackend } from '@detailflow/backend-node';
import type { Backend } from '@detailflow/core';
import { convert, load } from 'detailflow';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { cli } from './cli';
import { logits } from './family-logits';

const folder = mkdtempSync(path.join(tmpdir(), 'detailflow-copies-'));
const at = (name: string) => path.join(folder, name);
const fashion = path.join(import.meta.dirname, 'fixtures/fashion-ref');

let device: Backend;
beforeAll(async () => {
  device = await createNodeBackend({ threads: 1 });
  await convert(fashion, at('q8'), { dtype: 'q8' });
});
afterAll(async () => {
  await device.close();
  rmSync(folder, { recursive: true, force: true });
});

const refused = (work: Promise<unknown>, message: string) =>
  expect(work).rejects.toMatchObject({ code: 'invalid-argument', message: expect.stringContaining(message) });

describe('a copy in the cache', () => {
  test('is made once, by whoever comes first, and belongs to what the files hold', async () => {
    const [cache, source] = [at('cache'), at('source')];
    const { recipe } = await convert(fashion, source, { name: 'Original' });
    const expected = await logits(source, 1, { device, dtype: 'q8' });
    const rounded = path.join(cache, 'rounded');
    const open = () => load(source, { backend: device, dtype: 'q8', cache });
    await Promise.all((await Promise.all([open(), open(), open()])).map((model) => model.dispose()));
    const [first, ...others] = readdirSync(rounded);
    expect(others).toEqual([]);
    expect(await logits(path.join(rounded, first), 1, { device })).toEqual(expected);
    const made = statSync(path.join(rounded, first, 'ar.safetensors')).mtimeMs;
    const again = await open();
    expect([again.family, again.card?.name, again.card?.recipe]).toEqual(['DetailFlow', 'Original', recipe]);
    await again.dispose();
    expect(statSync(path.join(rounded, first, 'ar.safetensors')).mtimeMs).toBe(made);

    await (await load(source, { backend: device, dtype: 'q4', cache })).dispose();
    expect(readdirSync(rounded).length).toBe(2);
    const file = path.join(source, 'ar.safetensors');
    const bytes = readFileSync(file);
    bytes[bytes.length - 100] ^= 1; // a weight
    writeFileSync(file, bytes);
    await (await open()).dispose();
    expect(readdirSync(rounded).length).toBe(3);
  });

  test('is made for q8 and q4 alone, and of nothing that is rounded already', async () => {
    await refused(load(fashion, { cache: true }), 'cache keeps a rounded copy');
    await refused(load(fashion, { cache: true, dtype: 'fp32' }), '');
    await refused(load(fashion, { cache: '', dtype: 'q8' }), 'cache is');
    const { code, stderr } = await cli(['generate', '--model', fashion, '--cache', '--out', at('x.png')]);
    expect([code, stderr]).toEqual([2, expect.stringContaining('--cache keeps a rounded copy')]);
    await (await load(at('q8'), { backend: device, dtype: 'q8', cache: at('none') })).dispose();
    expect(readdirSync(folder)).not.toContain('none');
  });

  describe('on the command line', () => {
    const rounded = path.join(at('copies'), 'rounded');
    const drawing = ['generate', '--model', fashion, '--dtype', 'q8', '--cache', '--class', '3'];
    const draw = async (name: string, node: readonly string[] = []) => {
      const out = [...['--save-tokens', at(`${name}.npy`)], ...['--out', at(`${name}.png`)]];
      const { code, stderr } = await cli([...drawing, ...out], { node });
      expect({ code, stderr }).toEqual({ code: 0, stderr: expect.any(String) });
      return { stderr, drawn: readFileSync(at(`${name}.png`)) };
    };
    let expected: Buffer;
    let copy: string;
    beforeAll(async () => {
      vi.stubEnv('DETAILFLOW_CACHE', at('copies'));
      const first = await draw('first', ['--import', 'data:text/javascript,process.stderr.isTTY=true']);
      expect(first.stderr).toMatch(/ [\d.]+\/[\d.]+ MB/); // how far the copy is
      expected = first.drawn;
      const [name, ...others] = readdirSync(rounded);
      expect(others).toEqual([]);
      copy = path.join(rounded, name);
    });
    afterAll(() => vi.unstubAllEnvs());
    const stamp = () => statSync(path.join(copy, 'ar.safetensors')).mtimeMs;

    test('it is made once and draws the same as before', async () => {
      const made = stamp();
      const { stderr, drawn } = await draw('second');
      expect([stderr, drawn.equals(expected), stamp()]).toEqual(['', true, made]);
    });

    test.each<[string, (file: string) => void]>([
      [
        'has a byte that flipped',
        (file) => {
          const bytes = readFileSync(file);
          bytes[bytes.length - 1000] ^= 64;
          writeFileSync(file, bytes);
        },
      ],
      ['is shorter', (file) => writeFileSync(file, readFileSync(file).subarray(0, -8))],
      ['lacks a file', (file) => rmSync(file)],
      [
        'has a file more',
        (file) => writeFileSync(path.join(path.dirname(file), 'ar.safetensors.index.json'), '{}'),
      ],
      ['lacks its digests', (file) => rmSync(path.join(path.dirname(file), 'digests.json'))],
      [
        'has digests without end',
        (file) => writeFileSync(path.join(path.dirname(file), 'digests.json'), Buffer.alloc(2 ** 20, 32)),
      ],
    ])('one that %s is made again, and told of', async (name, damage) => {
      damage(path.join(copy, 'ar.safetensors'));
      const { stderr, drawn } = await draw(name.replace(/\W/g, '-'));
      expect(stderr).toMatch(/the rounded copy is damaged \(.+\); it is made again/);
      expect(drawn.equals(expected)).toBe(true);
      expect(readdirSync(rounded)).toEqual([path.basename(copy)]);
      expect((await draw('after')).stderr).toBe('');
    });

    test('what a killed process left is removed', async () => {
      const name = path.basename(copy);
      rmSync(copy, { recursive: true });
      for (const left of [`${name}.making-01`, `.${name}.making-01.new-0123`])
        cpSync(fashion, path.join(rounded, left), { recursive: true });
      expect((await draw('killed')).drawn.equals(expected)).toBe(true);
      expect(readdirSync(rounded)).toEqual([name]);
    });

    test.skipIf(process.platform === 'win32')(
      'a disk that takes no more leaves nothing, and is told',
      async () => {
        rmSync(copy, { recursive: true });
        const program = path.join(import.meta.dirname, '../packages/detailflow/dist/cli.js');
        const command = `trap '' XFSZ; ulimit -f 64; exec "$0" "$@"`;
        const args = [program, ...drawing, '--out', at('full.png')];
        const { status, stderr } = spawnSync('sh', ['-c', command, process.execPath, ...args], {
          encoding: 'utf8',
        });
        expect({ status, stderr }).toEqual({
          status: 1,
          stderr: expect.stringMatching(/could not be written|cannot be written/),
        });
        expect(stderr).toContain('DETAILFLOW_CACHE');
        expect(readdirSync(rounded)).toEqual([]);
      },
    );
  });
});
