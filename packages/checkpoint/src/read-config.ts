import { basename, dirname } from 'node:path';
import { type ConfigObject, readJsonConfig, readYamlConfig } from './config-files';
import { openFolder } from './node-files';

/**
 * Reads a configuration file of one object: YAML when its name ends in .yaml or .yml, else JSON.
 * @throws DetailFlowError `format`, `limit`, `io`
 */
export async function readConfig(path: string): Promise<ConfigObject> {
  const tree = await openFolder(dirname(path));
  const name = basename(path);
  return /\.ya?ml$/.test(name) ? readYamlConfig(tree, name) : readJsonConfig(tree, name);
}
