import { spawn } from 'node:child_process';
import { cpSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { writeNpz } from '@detailflow/data';
import { describe, expect, test } from 'vitest';
import { hasRedis } from '../packages/queue/src/test-redis';
import { cli, cliFailure, cliJson, fashion, inRepository, testFolder } from './cli';
import { digests, testQueue } from './queue-processes';

const at = testFolder();
const network = ['--features', inRepository('packages/model-fashion-32/classifier.safetensors')];

describe.runIf(hasRedis)('work that is given to a queue', () => {
  const { redis, running, worker } = testQueue();

  test('pictures and tokens are those that one process draws, to the byte', async () => {
    const what = ['generate', ...fashion, '--class', '0-3', '--count', '10', '--tokens', '16'];
    await cliJson(...what, '--out', at('here'), '--save-tokens', at('here.npy'));
    worker();
    worker('--threads', '2');
    const found = await cliJson(
      ...[...what, '--out', at('far'), '--save-tokens', at('far.npy'), '--queue', redis.url],
    );
    expect(found.machines).toHaveLength(1);
    expect(await digests(at('far'))).toEqual(await digests(at('here')));
    expect(readFileSync(at('far.npy'))).toEqual(readFileSync(at('here.npy')));
    // Workers say what they have done a little later.
    const status = async () => {
      const { workers, ...rest } = await cliJson('queue', 'status', '--queue', redis.url);
      const done: number[] = workers.map((one: { done: number }) => one.done);
      return { ...rest, workers: done.length, done: done.reduce((sum, count) => sum + count, 0) };
    };
    await expect
      .poll(status, { timeout: 60_000 })
      .toMatchObject({ isPaused: false, waiting: 0, active: 0, jobs: [], workers: 2, done: 3 });
  });

  test('figures of an evaluation are those of one process to the last digit, and so is what is kept', async () => {
    const what = [
      ...['eval', 'generation', ...fashion, '--data', 'shapes:60x32', '--all-images', ...network],
      ...['--count', '70', '--cfg', '1,1.5', '--labels', 'random', '--save-images'],
    ];
    const { rows, summary } = await cliJson(...what, '--out', at('eval-here'), '--threads', '1');
    const results = ['--results', at('eval-results')];
    worker(...results);
    worker(...results);
    const far = await cliJson(...what, '--out', at('eval-far'), '--queue', redis.url, ...results);
    const figures = (all: { seconds: number }[]) => all.map(({ seconds, ...row }) => row);
    expect(figures(far.rows)).toEqual(figures(rows));
    expect(far.summary).toEqual(summary);
    expect(await digests(at('eval-far/kept'))).toEqual(await digests(at('eval-here/kept')));
    const archives = readdirSync(at('eval-here')).filter((name) => name.endsWith('.npz'));
    expect(archives).toHaveLength(2);
    for (const name of archives) {
      expect(readFileSync(at(`eval-far/${name}`))).toEqual(readFileSync(at(`eval-here/${name}`)));
    }
    // Two shards of each of two scales.
    const [job] = readdirSync(at('eval-results'));
    expect(readdirSync(at(`eval-results/${job}`)).filter((name) => name.endsWith('.npz'))).toHaveLength(4);
    // What is kept is not asked for again: there is no worker any more.
    for (const one of running.splice(0)) await one.stop('SIGKILL');
    const again = await cliJson(...what, '--out', at('eval-far'), '--queue', redis.url, ...results);
    expect(figures(again.rows)).toEqual(figures(rows));
  });

  test('the sizes of pictures that are asked for are those of one process, too', async () => {
    const sizes = (size: number, evalSize: number) => ['--size', `${size}`, '--eval-size', `${evalSize}`];
    const what = [
      ...['generate', ...fashion, '--class', '0-1', '--count', '2', '--tokens', '16', ...sizes(32, 20)],
    ];
    const judged = [
      ...['eval', 'generation', ...fashion, '--data', 'shapes:60x32', '--all-images', ...network],
      ...['--count', '20', '--cfg', '1', '--save-images', ...sizes(16, 32)],
    ];
    await cliJson(...what, '--out', at('sized-here'));
    const { rows } = await cliJson(...judged, '--out', at('sized-eval-here'), '--threads', '1');
    worker();
    await cliJson(...what, '--out', at('sized-far'), '--queue', redis.url);
    const far = await cliJson(...judged, '--out', at('sized-eval-far'), '--queue', redis.url);
    const pictures = await digests(at('sized-here'));
    expect(Object.keys(pictures)).toHaveLength(4);
    expect(await digests(at('sized-far'))).toEqual(pictures);
    const [picture] = readdirSync(at('sized-far'));
    expect(readFileSync(at(`sized-far/${picture}`)).readUInt32BE(16)).toBe(20); // the width of a PNG
    expect({ ...far.rows[0], seconds: 0 }).toEqual({ ...rows[0], seconds: 0 });
    expect(await digests(at('sized-eval-far/kept'))).toEqual(await digests(at('sized-eval-here/kept')));
  });

  test('codes of a data set are those of one process, to the byte', async () => {
    const tower = { width: 16, heads: 2, layers: 1, mlpWidth: 32, patchSize: 8, positionGrid: 2 };
    const settings = {
      ...{ preset: 'tiny-32', replicas: 1, seed: 7 },
      tokenizer: {
        model: {
          ...{ imageSize: 16, tokens: 8, groupSize: 2, causalTokens: 2, codebookSize: 32 },
          ...{ encoder: tower, decoder: tower },
        },
        ...{ steps: 2, batch: 4, microBatch: 4, warmup: 0 },
      },
      tokenModel: { model: { dim: 16, layers: 1, heads: 2 } },
      validation: { every: 9, images: 4 },
    };
    writeFileSync(at('settings.json'), JSON.stringify(settings));
    const train = (part: string, out: string, ...more: string[]) =>
      cliJson(
        ...[
          'train',
          part,
          '--config',
          at('settings.json'),
          '--data',
          'shapes:300x16',
          '--out',
          at(out),
          ...more,
        ],
      );
    await train('tokenizer', 'run');
    cpSync(at('run'), at('run-far'), { recursive: true });
    await train('codes', 'run', '--codes-shard', '100');
    worker();
    worker();
    const far = await train('codes', 'run-far', '--codes-shard', '100', '--queue', redis.url);
    expect(far.machines).toEqual([expect.stringMatching(/, cpu$/)]); // what rounded the codes, as other commands say it
    const codes = await digests(at('run/codes'));
    expect(Object.keys(codes)).toEqual(['codes.json', ...[0, 1, 2].map((i) => `shard-0000${i}.bin`)]);
    expect(await digests(at('run-far/codes'))).toEqual(codes);

    // Of smaller images, in the crops that the settings name.
    const data = { views: 'ten-crop', cropRanges: [1.1, 1.3], heldOut: 0.8 };
    const smaller = { ...settings, data, tokenModel: { ...settings.tokenModel, imageSize: 8 } };
    writeFileSync(at('settings.json'), JSON.stringify(smaller));
    await train('tokenizer', 'small');
    cpSync(at('small'), at('small-far'), { recursive: true });
    await train('codes', 'small');
    await train('codes', 'small-far', '--queue', redis.url);
    const small = JSON.parse(readFileSync(at('small/codes/codes.json'), 'utf8'));
    expect(small).toMatchObject({ views: 20 });
    expect(small.tokens).toBeLessThan(8);
    expect(await digests(at('small-far/codes'))).toEqual(await digests(at('small/codes')));
    writeFileSync(at('settings.json'), JSON.stringify(settings));
    for (const one of running.splice(0)) await one.stop('SIGTERM');

    // Other images are refused by the worker, and the command says so: fewer, and as many of which one differs in a pixel.
    const pixels = Uint8Array.from({ length: 60 * 16 * 16 * 3 }, (_, i) => (i * 7919) % 251);
    const labels = Int32Array.from({ length: 60 }, (_, i) => i % 3);
    const save = (name: string) => {
      const arrays = {
        arr_0: { data: pixels, shape: [60, 16, 16, 3] },
        arr_1: { data: labels, shape: [60] },
      };
      writeFileSync(at(name), writeNpz(arrays));
      return at(name);
    };
    const own = ['--data', save('own.npz')];
    pixels[41 * 16 * 16 * 3]++;
    const others = [save('other.npz'), 'shapes:20x16'];
    const fresh = ['--config', at('settings.json'), ...own, '--out', at('run-fresh')];
    await cliJson('train', 'tokenizer', ...fresh);
    for (const other of others) {
      const one = worker('--data', other);
      const refused = await cli(['train', 'codes', ...fresh, '--queue', redis.url]);
      expect(refused).toMatchObject({
        code: 1,
        stderr: expect.stringMatching(
          /every worker .* refuses this job: .*(of images 0 to \d+ differs|not what the run was begun with)/,
        ),
      });
      await one.stop('SIGTERM');
    }
    worker();
    await cliJson('train', 'codes', ...fresh, '--queue', redis.url);
  });

  test('a worker with another version of the model refuses; its own place of the same content is taken', async () => {
    const folder = inRepository('tests/fixtures/fashion-ref');
    cpSync(folder, at('other-model'), { recursive: true });
    cpSync(folder, at('same-model'), { recursive: true });
    const card = readdirSync(at('other-model')).find((name) => name.endsWith('.json')) as string;
    const file = path.join(at('other-model'), card);
    writeFileSync(file, `${readFileSync(file, 'utf8')} `);
    const what = [
      ...['generate', ...fashion, '--class', '1', '--count', '3', '--tokens', '1', '--grid'],
      ...['--queue', redis.url],
    ];
    const bad = worker('--model', at('other-model'));
    expect(await cliFailure(1, ...what, '--out', at('refused.png'))).toMatch(
      /every worker .* refuses this job: .*other-model: .*another content/,
    );
    expect(bad.said()).toMatch(/refuses job [0-9a-f]{12}: .*other-model/);
    await bad.stop('SIGKILL');
    worker('--model', at('same-model'));
    await cliJson(...what, '--out', at('taken.png'));
  });

  test.skipIf(process.platform === 'win32')(
    'a worker whose disk is full writes nothing, and says so',
    async () => {
      const results = at('full');
      const program = [inRepository('packages/detailflow/dist/cli.js'), 'worker', '--queue', redis.url];
      // Files of this worker cannot be longer than a kilobyte.
      const full = spawn('bash', [
        ...['-c', 'ulimit -f 1; exec "$0" "$@"', process.execPath, ...program, '--results', results],
        ...['--threads', '1'],
      ]);
      let said = '';
      full.stderr.on('data', (data) => (said += data));
      const what = [
        ...[
          'generate',
          ...fashion,
          '--class',
          '1',
          '--count',
          '3',
          '--tokens',
          '1',
          '--grid',
          '--out',
          at('f.png'),
        ],
        ...['--queue', redis.url, '--results', results],
      ];
      try {
        const refused = await cliFailure(1, ...what);
        expect(refused).toMatch(
          /every worker .* refuses this job: .*shard-00000000-3.npz: cannot be written/,
        );
        expect(said).toMatch(/cannot be written/);
        const [job] = readdirSync(results);
        expect(readdirSync(path.join(results, job))).toEqual(['job.json']);
      } finally {
        const ended = new Promise((resolve) => full.once('exit', resolve));
        full.kill('SIGKILL');
        await ended;
      }
      writeFileSync(at('no-folder'), '');
      const wrong = await cliFailure(1, ...what.slice(0, -1), at('no-folder'));
      expect(wrong).toMatch(/no-folder.*: cannot be made/);
      worker('--results', results);
      await cliJson(...what);
    },
  );
});
