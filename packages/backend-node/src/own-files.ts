import { existsSync } from 'node:fs';
import { DetailFlowError } from '@detailflow/core';

/**
 * The files that this package starts by their path must lie beside its code, where a bundler leaves them behind.
 * @throws DetailFlowError `unsupported`, naming the settings of bundlers that leave packages out
 */
export function requireOwnFiles(): void {
  if (areBeside()) return;
  throw new DetailFlowError(
    'unsupported',
    '@detailflow/backend-node was bundled into another file, and its worker and ONNX Runtime were left behind: keep ' +
      'packages out of the bundle (esbuild: --packages=external; webpack: externals; Next.js: serverExternalPackages: ' +
      '["detailflow", "@detailflow/backend-node"]) and install them where the bundle runs',
  );
}

function areBeside(): boolean {
  try {
    return [new URL('./worker.js', import.meta.url), new URL('./probe-child.js', import.meta.url)].every(
      (file) => existsSync(file),
    );
  } catch {
    return false; // a bundle of CommonJS has no import.meta.url
  }
}
