import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import OpenAI from 'openai';
import sharp from 'sharp';
import { expect, test } from 'vitest';
import { GET, POST } from '../examples/next-route';
import { inRepository } from './cli';

const isThere = (program: string) => spawnSync(program, ['--version'], { stdio: 'ignore' }).status === 0;

test('express-server: pictures below an address of another server', async () => {
  const child = spawn(
    process.execPath,
    ['--import', 'tsx', inRepository('examples/express-server.ts'), '0'],
    {
      cwd: inRepository('.'),
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
  const lines = createInterface({ input: child.stdout });
  const said: string[] = [];
  const url = await new Promise<string>((resolve, reject) => {
    lines.on('line', (line) => {
      said.push(line);
      resolve(line);
    });
    child.once('exit', (code) => reject(new Error(`it ended with ${code}`)));
  });
  expect(await (await fetch(url)).text()).toContain('/images/v1');
  const client = new OpenAI({ apiKey: 'any', baseURL: `${url}/images/v1`, maxRetries: 0 });
  const stream = await client.images.generate({ prompt: 'bag', stream: true, partial_images: 1 });
  const types: string[] = [];
  for await (const { type } of stream) types.push(type);
  expect(types).toEqual(['image_generation.partial_image', 'image_generation.completed']);
  const closed = once(child, 'close');
  child.kill('SIGTERM');
  expect((await closed)[0]).toBe(0);
  expect(said.at(-1)).toBe('stopped, 0 pictures unfinished');
});

test('next-route: its handlers answer requests as Next.js hands them over', async () => {
  const models = await GET(new Request('http://localhost:3000/images/v1/models?x=1'));
  expect((await models.json()).data).toHaveLength(1);
  const answer = await POST(
    new Request('http://localhost:3000/images/v1/images/generations', {
      ...{ method: 'POST', headers: { 'content-type': 'application/json' } },
      body: JSON.stringify({ prompt: 'trouser', seed: 1 }),
    }),
  );
  const [{ b64_json }] = (await answer.json()).data;
  expect((await sharp(Buffer.from(b64_json, 'base64')).metadata()).format).toBe('png');
});

const place = inRepository('packages/serve');

/** The options of a command line, each of which `detailflow serve` must know. */
function expectKnownOptions(command: string): void {
  const help = spawnSync(
    process.execPath,
    [inRepository('packages/detailflow/dist/cli.js'), 'serve', '--help'],
    {
      encoding: 'utf8',
    },
  ).stdout;
  const options = command.match(/--[a-z][\w-]*/g) ?? [];
  expect(options.length).toBeGreaterThan(0);
  for (const option of options) expect(help).toContain(`  ${option} `);
}

test('the unit for systemd has what a service needs, and runs a command that is there', () => {
  const file = path.join(place, 'detailflow.service');
  const lines = readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'));
  const sections = lines.filter((line) => line.startsWith('['));
  expect(sections).toEqual(['[Unit]', '[Service]', '[Install]']);
  for (const line of lines) expect(line).toMatch(/^(\[\w+\]|[A-Z]\w+=.+)$/);
  const settings = new Map(
    lines.filter((line) => !line.startsWith('[')).map((line) => line.split(/=(.*)/s, 2) as [string, string]),
  );
  const command = settings.get('ExecStart') ?? '';
  expect(command).toMatch(/^\/usr\/bin\/env node node_modules\/detailflow\/bin\/detailflow\.mjs serve /);
  expectKnownOptions(command);
  const drain = Number(/--drain (\d+)/.exec(command)?.[1]);
  expect(Number(settings.get('TimeoutStopSec'))).toBeGreaterThan(drain + 5);
  // It may write nowhere but there, so what it fetches from the Hub must lie there.
  expect(settings.get('ProtectSystem')).toBe('strict');
  const cache = `/var/cache/${settings.get('CacheDirectory')}/`;
  expect(settings.get('Environment')).toContain(` HF_HOME=${cache}`);
  if (isThere('systemd-analyze')) {
    const { status, stderr } = spawnSync('systemd-analyze', ['verify', file], { encoding: 'utf8' });
    expect([status, stderr]).toEqual([0, expect.not.stringContaining('detailflow.service:')]);
  } else console.warn('THE UNIT IS ONLY PARSED: systemd-analyze is not there to verify it');
});

test('the Containerfile has known instructions, no root, and a command that is there', () => {
  const text = readFileSync(path.join(place, 'Containerfile'), 'utf8');
  const joined = text.replace(/^#.*$/gm, '').replace(/\\\n/g, ' ');
  const instructions = joined
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => line.trim().split(/\s+(.*)/s, 2));
  const known = [
    'FROM',
    'ENV',
    'WORKDIR',
    'RUN',
    'USER',
    'EXPOSE',
    'ENTRYPOINT',
    'CMD',
    'STOPSIGNAL',
    'HEALTHCHECK',
  ];
  for (const [name] of instructions) expect(known).toContain(name);
  const of = (name: string) => instructions.find(([one]) => one === name)?.[1] ?? '';
  expect(of('USER')).toBe('node');
  const command: string[] = [...JSON.parse(of('ENTRYPOINT')), ...JSON.parse(of('CMD'))];
  expect(command.slice(0, 3)).toEqual(['node', 'node_modules/detailflow/bin/detailflow.mjs', 'serve']);
  expectKnownOptions(command.join(' '));
  const [, check] = of('HEALTHCHECK').split(/CMD (.*)/s);
  const [program, ...rest] = JSON.parse(check) as string[];
  // Nothing listens there in a test, so the check must say so, and not fail to parse.
  const run = spawnSync(
    program === 'node' ? process.execPath : program,
    rest.map((one) => one.replace(':8000', ':9')),
    {
      encoding: 'utf8',
    },
  );
  expect([run.status, run.stderr]).toEqual([1, '']);
});
