import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { modelUrl } from '@detailflow/model-fashion-32';
import { defineConfig, type Plugin } from 'vite';

const folder = fileURLToPath(modelUrl);

/** Serves the files of the model below model/, and copies them there for a build. */
const modelFiles: Plugin = {
  name: 'model-files',
  configureServer(server) {
    server.middlewares.use('/model', (request, response, next) => {
      const name = path.basename(request.url ?? '');
      if (!readdirSync(folder).includes(name)) return next();
      response.setHeader('content-type', 'application/octet-stream');
      response.end(readFileSync(path.join(folder, name)));
    });
  },
  generateBundle() {
    for (const name of readdirSync(folder)) {
      this.emitFile({
        type: 'asset',
        fileName: `model/${name}`,
        source: readFileSync(path.join(folder, name)),
      });
    }
  },
};

export default defineConfig({
  base: './',
  plugins: [modelFiles],
  worker: { format: 'es' },
  build: { target: 'es2022', modulePreload: false },
});
