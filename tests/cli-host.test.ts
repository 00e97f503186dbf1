import { readFileSync } from 'node:fs';
import { expect, onTestFinished, test, vi } from 'vitest';
import { cli, fashion, type Outcome, testFolder } from './cli';

const at = testFolder();
/** Without the seconds, which differ from run to run. */
const plain = ({ stdout, ...rest }: Outcome) => ({ ...rest, stdout: stdout.replace(/"seconds":[\d.]+/, '') });

test.each([
  { args: ['--version'], code: 0 },
  { args: [], code: 2 },
  { args: ['generate', '--help'], code: 0 },
  { args: ['generate', ...fashion, '--clas', '1'], code: 2 },
  { args: ['inspect', at('nothing')], code: 1 },
  { args: ['inspect', ...fashion], code: 0 },
  {
    args: ['generate', ...fashion, '--class', '2', '--tokens', '3', '--json', '--out', at('x.png')],
    code: 0,
  },
  { args: ['encode', ...fashion, at('x.png'), '--out', at('x.npy'), '--json'], code: 0 },
])('$args says and does in a process that is kept what it does in one of its own', async ({ args, code }) => {
  const written = () => (args.includes('--out') ? readFileSync(args[args.indexOf('--out') + 1]) : undefined);
  const alone = await cli(args, { fresh: true });
  const first = written();
  // Twice, so that what a run leaves behind would show.
  for (let i = 0; i < 2; i++) {
    expect(plain(await cli(args))).toEqual(plain(alone));
    expect(written()).toEqual(first);
  }
  expect(alone.code).toBe(code);
});

test('runs at once, and each with the environment of its time', async () => {
  const both = await Promise.all([cli(['--version']), cli(['generate'])]);
  expect(both.map(({ code }) => code)).toEqual([0, 2]);
  const fetched = () => cli(['inspect', 'hf:acme/none']);
  vi.stubEnv('HF_HOME', at('hub'));
  vi.stubEnv('HF_HUB_OFFLINE', '1');
  onTestFinished(() => {
    vi.unstubAllEnvs();
  });
  const offline = await fetched();
  vi.stubEnv('HF_HUB_OFFLINE', '0');
  vi.stubEnv('HF_ENDPOINT', 'ftp://elsewhere');
  const online = await fetched();
  expect([offline.code, online.code]).toEqual([1, 2]);
  expect(offline.stderr).toMatch(/HF_HUB_OFFLINE/);
  expect(online.stderr).toMatch(/HF_ENDPOINT: is no http/);
});
