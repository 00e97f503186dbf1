import { afterEach, describe, expect, test, vi } from 'vitest';
import { cli, cliFailure, cliJson, inRepository, testFolder } from '../../../../tests/cli';
import { testHub } from '../../../../tests/hub-environment';

const at = testFolder();
const { hub, drawn } = testHub(at, { '': 'tests/fixtures/fashion-ref' });

describe('push', () => {
  const model = inRepository('packages/model-fashion-32/model');
  afterEach(() => hub.writes.objects.clear());

  test('puts a model on the hub, from where it is loaded and draws as before', async () => {
    const address = 'hf:acme/tiny/pushed';
    const listed = await cli(['push', model, address, '--dry-run']);
    expect(listed).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/would be sent .*MB\n(.|\n)*ar\.safetensors/),
    });
    expect([...hub.files.keys()].some((file) => file.startsWith('pushed/'))).toBe(false);
    process.env.HF_TOKEN = 'hf_x';
    const sent = await cliJson('push', model, address, '--message', 'First');
    expect(sent.commit).toBe(hub.commit);
    expect(hub.writes.commits.at(-1)).toMatchObject({ summary: 'First' });
    const again = await cli(['push', model, address]);
    expect(again.stdout).toContain(`nothing has changed since commit ${hub.commit}`);
    expect(await drawn(['--model', address], 'from-hub')).toEqual(
      await drawn(['--model', model], 'from-disk'),
    );
  });

  test('stops by Ctrl-C in the middle of a file, and the branch is as it was', async () => {
    process.env.HF_TOKEN = 'hf_x';
    const before = hub.commit;
    hub.writes.uploadFault = () => ({ stallAfter: 1 });
    const begun = hub.writes.uploads;
    const stopped = await cli(['push', model, 'hf:acme/tiny/stopped'], {
      interrupt: async (ready) => {
        await ready;
        await vi.waitFor(() => expect(hub.writes.uploads).toBeGreaterThan(begun), { timeout: 60_000 });
      },
    });
    hub.writes.uploadFault = () => undefined;
    expect(stopped).toMatchObject({ code: 130, stderr: expect.stringContaining('push: stopped') });
    expect(hub.commit).toBe(before);
  });

  test('says what is missing', async () => {
    process.env.HF_HUB_DISABLE_IMPLICIT_TOKEN = '1';
    expect(await cliFailure(1, 'push', model, 'hf:acme/tiny')).toContain('set HF_TOKEN');
    delete process.env.HF_HUB_DISABLE_IMPLICIT_TOKEN;
    process.env.HF_TOKEN = 'hf_x';
    expect(await cliFailure(1, 'push', model, 'hf:acme/none')).toMatch(/no such repository.*--create/);
    expect(await cliFailure(1, 'push', model, 'hf:acme/tiny', '--create')).toContain('is there already');
    hub.writes.token = 'hf_owner';
    expect(await cliFailure(1, 'push', model, 'hf:acme/tiny/else')).toMatch(/lacks the right/);
    hub.writes.token = undefined;
    for (const [args, message] of [
      [[model], /which folder/],
      [['hf:acme/tiny', model], /folder first/],
      [[model, 'hf:acme'], /no address/],
      [[model, 'hf:acme/tiny', 'more'], /not expected/],
      [[model, 'hf:acme/tiny', '--private'], /--create/],
    ] as const)
      expect(await cliFailure(2, 'push', ...args)).toMatch(message);
  });
});
