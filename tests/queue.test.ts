import { spawn } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { writeNpz } from '@detailflow/data';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { hasRedis, plainRedis, startRedis, type TestRedis } from '../packages/queue/src/test-redis';
import { cli, cliFailure, cliJson, fashion, inRepository, testFolder } from './cli';
import { drawWhileKilling } from './queue-kills';
import { digests, type Running, startCli, startWorker } from './queue-processes';

const at = testFolder();
const network = ['--features', inRepository('packages/model-fashion-32/classifier.safetensors')];

describe.runIf(hasRedis)('work that is given to a queue', () => {
  let redis: TestRedis;
  const running: Running[] = [];
  const worker = (...more: string[]) => {
    const one = startWorker(redis.url, ...more);
    running.push(one);
    return one;
  };
  beforeAll(async () => {
    redis = await startRedis();
  });
  afterEach(async () => {
    for (const one of running.splice(0)) if (one.child.exitCode === null) await one.stop('SIGKILL');
  });
  afterAll(() => redis?.remove());

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
    await train('codes', 'run-far', '--codes-shard', '100', '--queue', redis.url);
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
    for (const one of running.splice(0)) await one.stop('SIGKILL');

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

  test('a worker that is asked to end gives back what it is at, and ends well', async () => {
    const what = ['generate', ...fashion, '--class', '0-9', '--count', '32', '--out', at('slow')];
    const first = worker();
    const command = startCli([...what, '--queue', redis.url]);
    running.push(command);
    const plain = plainRedis(redis.url);
    await expect.poll(() => plain.llen('detailflow:shards:active'), { timeout: 300_000 }).toBe(1);
    // The lock of a shard lasts five seconds, after which others may have it.
    const [id] = await plain.lrange('detailflow:shards:active', 0, 0);
    await expect.poll(() => plain.pttl(`detailflow:shards:${id}:lock`)).toBeGreaterThan(0);
    expect(await plain.pttl(`detailflow:shards:${id}:lock`)).toBeLessThanOrEqual(5000);
    const { code, stdout } = await first.stop('SIGTERM');
    // One that it has just finished is not given back.
    expect({ code, stdout }).toEqual({ code: 0, stdout: expect.stringMatching(/0 failed, [01] given back/) });
    const status = () => cliJson('queue', 'status', '--queue', redis.url);
    // Workers of earlier tests are seen until their last sign is too old.
    await expect.poll(status, { timeout: 120_000 }).toMatchObject({ active: 0, workers: [] });
    const [{ job }] = (await status()).jobs;

    // Pause, cancel: whoever waits is told.
    await cliJson('queue', 'pause', '--queue', redis.url);
    expect(await cliJson('queue', 'status', '--queue', redis.url)).toMatchObject({ isPaused: true });
    await cliJson('queue', 'resume', '--queue', redis.url);
    expect(await cliJson('queue', 'cancel', job.slice(0, 12), '--queue', redis.url)).toMatchObject({ job });
    expect(await command.ended).toMatchObject({ code: 1, stderr: expect.stringMatching(/was cancelled/) });
    await plain.quit();
  });

  test('the same command twice at once, and a server that loses all it holds meanwhile', async () => {
    const what = ['generate', ...fashion, '--class', '0-3', '--count', '16', '--tokens', '4'];
    await cliJson(...what, '--out', at('once'));
    const both = ['twice-1', 'twice-2'].map((out) =>
      startCli([...what, '--out', at(out), '--queue', redis.url]),
    );
    running.push(...both);
    worker();
    worker();
    const plain = plainRedis(redis.url);
    await expect.poll(() => plain.llen('detailflow:shards:active'), { timeout: 300_000 }).toBeGreaterThan(0);
    await plain.flushall();
    await plain.quit();
    for (const one of both) expect(await one.ended).toMatchObject({ code: 0 });
    const pictures = await digests(at('once'));
    expect(Object.keys(pictures)).toHaveLength(64);
    for (const out of ['twice-1', 'twice-2']) expect(await digests(at(out))).toEqual(pictures);
  });

  test.each([
    ['generate', ...fashion, '--class', '1', '--count', '40', '--tokens', '1', '--out', 'stopped'],
    [
      ...['eval', 'generation', ...fashion, '--data', 'shapes:60x32', '--all-images', ...network],
      ...['--count', '20', '--cfg', '1', '--out', 'stopped-eval'],
    ],
  ])('%s that is stopped says that workers go on, and the command that ends it', async (...args) => {
    const what = [...args.slice(0, -1), at(args[args.length - 1])];
    const plain = plainRedis(redis.url);
    await plain.flushall();
    const { code, stderr } = await cli([...what, '--queue', redis.url], {
      async interrupt(ready) {
        await ready;
        await expect
          .poll(() => plain.llen('detailflow:shards:wait'), { timeout: 300_000 })
          .toBeGreaterThan(0);
      },
    });
    expect(code).toBe(130);
    expect(stderr).toMatch(
      /: stopped\n(what was measured .*\n)?workers go on with what was given to the queue/,
    );
    const [, command] = /^detailflow (queue cancel .*)$/m.exec(stderr) ?? [];
    const cancelled = await cliJson(...command.split(' '));
    expect(cancelled.removed).toBeGreaterThan(0);
    expect(await cliJson('queue', 'status', '--queue', redis.url)).toMatchObject({
      ...{ waiting: 0, jobs: [{ job: cancelled.job, state: 'cancelled' }] },
    });
    await plain.quit();
  });

  test('workers, the server and the command itself are killed: no picture is lost or doubled', async () => {
    expect.hasAssertions();
    mkdirSync(at('kills'));
    await drawWhileKilling(at('kills'), { shards: 90, kills: 4 });
  });
});

describe.runIf(hasRedis)('a queue that cannot be used', () => {
  const secret = 'p@ss/w:rd%1';
  const written = encodeURIComponent(secret);
  let redis: TestRedis;
  beforeAll(async () => {
    redis = await startRedis(['--requirepass', secret]);
  });
  afterAll(() => redis?.remove());
  const hidden = (text: string) => {
    for (const one of [secret, written]) expect(text).not.toContain(one);
    return text;
  };

  test('wants a password, which is shown nowhere', async () => {
    const place = `127.0.0.1:${redis.port}`;
    const status = (url: string) => ['queue', 'status', '--queue', url];
    expect(hidden(await cliFailure(1, ...status(`redis://${place}`)))).toMatch(
      new RegExp(`redis://${place}: wants another user or password`),
    );
    const wrong = hidden(await cliFailure(1, ...status(`redis://:${written}x@${place}`)));
    expect(wrong).toMatch(/wants another user or password/);
    const right = await cli([...status(`redis://:${written}@${place}`), '--json']);
    expect(right).toMatchObject({ code: 0, stderr: '' });
    hidden(right.stdout);
    const byEnvironment = startCli([...status(`redis://${place}`), '--json'], {
      DETAILFLOW_QUEUE_PASSWORD: secret,
    });
    expect(await byEnvironment.ended).toMatchObject({ code: 0, stderr: '' });
    const worker = startCli(['worker', '--queue', `redis://:${written}@${place}`]);
    await expect
      .poll(
        async () => {
          const { stdout } = await cli([...status(`redis://:${written}@${place}`), '--json']);
          return JSON.parse(stdout).workers.length;
        },
        { timeout: 100_000 },
      )
      .toBe(1);
    // A server that is gone and back, with the worker waiting.
    await redis.stop('SIGKILL');
    await expect.poll(() => worker.said(), { timeout: 100_000 }).toMatch(/connection is lost/);
    await redis.start();
    await expect.poll(() => worker.said(), { timeout: 100_000 }).toMatch(/connected again/);
    const { code, stdout, stderr } = await worker.stop('SIGINT');
    expect(code).toBe(0);
    hidden(stdout + stderr);
  });

  test.each([
    [`redis://:${written}@`, 2],
    [`http://me:${written}@host`, 2],
    [`redis://:${written}@host/db`, 2],
    [`redis://:${written}@host?x=1`, 2],
    [`redis://:%zz${written}@host`, 2],
    [`redis://:${written}@127.0.0.1:99999`, 2],
    [`${written}`, 2],
    [`redis://:${written}@127.0.0.1:1`, 1],
    [`redis://:${written}@no-such-host.invalid`, 1],
  ] as const)('%s is refused, and not repeated', async (url, code) => {
    for (const command of [['worker'], ['queue', 'status']]) {
      const said = hidden(await cliFailure(code, ...command, '--queue', url));
      expect(said).toMatch(
        code === 2 ? /--queue: the address of the queue/ : /redis:\/\/[\w.-]+:\d+: cannot be reached/,
      );
    }
    hidden(await cliFailure(2, 'worker', '--queue', url, '--queue', url));
    hidden(await cliFailure(2, 'queue', url));
  });
});

describe('the command line of the queue', () => {
  const queue = ['--queue', 'redis://127.0.0.1:1'];
  test.each([
    [['worker'], /--queue is missing/],
    [['worker', ...queue, 'x'], /"x" is not expected/],
    [['worker', ...queue, '--device', 'tpu'], /--device "tpu"/],
    [['worker', ...queue, '--threads', '0'], /--threads 0/],
    [['queue', ...queue], /status, pause, resume, cancel, failed/],
    [['queue', 'stop', ...queue], /status, pause, resume, cancel, failed/],
    [['queue', 'status'], /--queue is missing/],
    [['queue', 'status', 'x', ...queue], /"x" is not expected/],
    [['queue', 'cancel', ...queue], /say which job/],
    [['queue', 'cancel', '../x', ...queue], /names no job/],
    [['queue', 'pause', '--retry', ...queue], /--retry is for queue failed/],
    [['generate', ...fashion, '--class', '1', '--out', 'x', '--results', 'y'], /--results is for/],
    [['generate', ...fashion, '--class', '1', '--out', 'x', '--progressive', ...queue], /--progressive/],
    [['generate', ...fashion, '--class', '1', '--out', 'x', '--noise', 'n.npy', ...queue], /--noise/],
    [
      ['generate', ...fashion, '--class', '1', '--out', 'x', '--queue', 'nonsense'],
      /does not begin with redis/,
    ],
    [
      ['eval', 'images', '--images', 'x', '--data', 'y', '--out', 'z', ...queue],
      /--queue is for eval generation/,
    ],
    [['train', 'ar', '--config', 'tiny-32', '--data', 'shapes:9', '--out', 'x', ...queue], /for train codes/],
  ] as const)('%j is refused', async (args, message) => {
    expect(await cliFailure(2, ...args)).toMatch(message);
  });
});
