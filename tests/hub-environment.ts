import { readdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach } from 'vitest';
import { cliJson, codeRows, inRepository } from './cli';
import { StandInHub } from './stand-in-hub';

const variables = ['HF_ENDPOINT', 'HF_HOME', 'HF_HUB_CACHE', 'HF_TOKEN', 'HF_HUB_OFFLINE'] as const;

/**
 * A hub for the tests of a file, which the environment names, with an empty cache for each test.
 * @param at the folder of the tests
 * @param published folders of the repository, by where they are on the hub
 */
export function testHub(at: (name: string) => string, published: Readonly<Record<string, string>>) {
  const hub = new StandInHub();
  const before = variables.map((name) => [name, process.env[name]] as const);
  let home = 0;
  beforeAll(async () => {
    await hub.start();
    for (const [prefix, folder] of Object.entries(published)) publish(inRepository(folder), prefix);
  });
  afterAll(async () => {
    await hub.stop();
    for (const [name, value] of before) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  });
  beforeEach(() => {
    for (const name of variables) delete process.env[name];
    Object.assign(process.env, { HF_ENDPOINT: hub.endpoint, HF_HOME: at(`home-${home++}`) });
    hub.hubFault = () => undefined;
  });
  function publish(folder: string, prefix: string) {
    for (const file of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
      if (!statSync(path.join(folder, file)).isFile()) continue;
      const large = /\.(safetensors|pt)$/.test(file);
      hub.add(prefix + file.split(path.sep).join('/'), readFileSync(path.join(folder, file)), { large });
    }
  }

  /** The tokens that the command line draws with a model, which are kept as `name.npy`. */
  async function drawn(model: readonly string[], name: string): Promise<number[][]> {
    const [tokens, out] = [at(`${name}.npy`), at(`${name}.png`)];
    const what = ['--class', '3', '--seed', '5', '--save-tokens', tokens, '--out', out];
    await cliJson('generate', ...model, ...what);
    return codeRows(tokens);
  }
  return { hub, drawn };
}
