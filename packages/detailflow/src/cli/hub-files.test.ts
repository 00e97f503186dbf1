import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { cli, cliFailure, codeRows, inRepository, testFolder } from '../../../../tests/cli';
import { testHub } from '../../../../tests/hub-environment';
import { load } from '../load';

const at = testFolder();
const { hub, drawn } = testHub(at, {
  'files/vq/': 'tests/fixtures/golden/family/llamagen/vq',
  'files/c2i/': 'tests/fixtures/golden/family/llamagen/gpt_c2i',
});

describe('a file of weights by its address', () => {
  const family = 'tests/fixtures/golden/family/llamagen';
  const [vq, c2i] = [`${family}/vq/vq_ds4_P.pt`, `${family}/gpt_c2i/c2i_P.pt`].map(inRepository);
  const web = () => `${hub.endpoint}/acme/tiny/resolve/main/files`;
  const far = () => ['hf:acme/tiny/files', web()];
  const halves = (root: string) => ['--tokenizer', `${root}/vq/vq_ds4_P.pt`, '--ar', `${root}/c2i/c2i_P.pt`];
  const args = (name: string) => [
    ...['--class', '3', '--seed', '5', '--save-tokens', at(`${name}.npy`), '--out', at(`${name}.png`)],
  ];
  const kept = () =>
    readdirSync(process.env.HF_HOME as string, { recursive: true, encoding: 'utf8' }).filter((file) =>
      file.endsWith('.pt'),
    );

  test('is a half of a model, from the hub and from a web server, as the same file here', async () => {
    const local = await drawn(['--tokenizer', vq, '--ar', c2i], 'local-files');
    expect(await drawn(halves('hf:acme/tiny/files'), 'far-0')).toEqual(local);
    expect(await drawn(['--tokenizer', vq, '--ar', 'hf:acme/tiny@main/files/c2i/c2i_P.pt'], 'mixed')).toEqual(
      local,
    );
    const [, tokenizer, , ar] = halves(web());
    const sha256 = createHash('sha256').update(readFileSync(vq)).digest('hex');
    const { code, stderr } = await cli([
      ...['generate', '--tokenizer', `${tokenizer}#sha256=${sha256}`, '--ar', `${ar}?download=true`],
      ...args('far-1'),
    ]);
    expect({ code, stderr }).toEqual({
      code: 0,
      stderr: expect.stringContaining('only the length is checked'),
    });
    expect(await codeRows(at('far-1.npy'))).toEqual(local);
    for (const root of far()) {
      const model = await load({ tokenizer: `${root}/vq/vq_ds4_P.pt`, ar: `${root}/c2i/c2i_P.pt` });
      expect(model.family).toBe('LlamaGen');
      await model.dispose();
    }
  });

  test('is read by ranges', async () => {
    const { code, stderr } = await cli([
      'generate',
      ...halves('hf:acme/tiny/files'),
      '--partial',
      ...args('ranges'),
    ]);
    expect({ code, stderr }).toEqual({
      code: 0,
      stderr: expect.stringContaining('c2i_P.pt: read by ranges'),
    });
    expect(kept()).toEqual([]);
    expect(await codeRows(at('ranges.npy'))).toEqual(
      await drawn(['--tokenizer', vq, '--ar', c2i], 'whole-files'),
    );
  });

  test('that is not there is told by its name', async () => {
    for (const more of [[], ['--partial']]) {
      const wrong = (tokenizer: string) =>
        cliFailure(1, 'generate', '--tokenizer', tokenizer, '--ar', c2i, ...more, ...args('wrong'));
      expect(await wrong('hf:acme/tiny/files/vq/vq_ds5.pt')).toMatch(
        /files\/vq\/vq_ds5\.pt: there is no such file; beside it lie config\.json, vq_ds4_P\.pt/,
      );
      expect(await wrong(`${web()}/vq/vq_ds5.pt`)).toMatch(/files\/vq\/vq_ds5\.pt: there is no such file/);
    }
    process.env.HF_HUB_OFFLINE = '1';
    expect(await cliFailure(1, 'generate', ...halves('hf:acme/tiny/files'), ...args('wrong'))).toContain(
      'HF_HUB_OFFLINE',
    );
    expect(await cliFailure(1, 'generate', ...halves(web()), ...args('wrong'))).toContain(
      'network is not used',
    );
  });

  test('with another content than its hash is refused, as is a folder with a hash', async () => {
    const [, tokenizer, , ar] = halves(web());
    const wrong = (code: 1 | 2, pinned: string) =>
      cliFailure(code, 'generate', '--tokenizer', pinned, '--ar', ar, ...args('pinned'));
    expect(await wrong(1, `${tokenizer}#sha256=${'0'.repeat(64)}`)).toContain('does not have the hash');
    expect(kept()).toEqual([]);
    expect(await wrong(2, `${web()}/vq#sha256=${'0'.repeat(64)}`)).toContain('address of a folder');
  });
});
