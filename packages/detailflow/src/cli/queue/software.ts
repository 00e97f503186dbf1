import { readFileSync } from 'node:fs';

/** Raised when shards are cut or computed in another way within one version. */
const REVISION = 1;

/** Results of one job come from one version of the program. */
export function software(): string {
  const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
  return `${version}-${REVISION}`;
}
