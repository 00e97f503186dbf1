import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { modelUrl } from '@detailflow/model-emoji-64';
import { defineConfig, type Plugin } from 'vite';

const folder = fileURLToPath(modelUrl);
const beside = path.dirname(path.resolve(folder));
/** What the page fetches below model/: the model, a picture of each class, whom the drawings are from. */
const files = new Map<string, string>([
  ...readdirSync(folder).map((name) => [name, path.join(folder, name)] as const),
  ['classes.png', path.join(beside, 'images', 'classes.png')],
  ['CREDITS.md', path.join(beside, 'CREDITS.md')],
]);

/** Serves these files below model/, and copies them there for a build. */
const modelFiles: Plugin = {
  name: 'model-files',
  configureServer(server) {
    server.middlewares.use('/model', (request, response, next) => {
      const file = files.get(path.basename(request.url ?? ''));
      if (file === undefined) return next();
      response.setHeader('content-type', file.endsWith('.png') ? 'image/png' : 'application/octet-stream');
      response.end(readFileSync(file));
    });
  },
  generateBundle() {
    for (const [name, file] of files)
      this.emitFile({ type: 'asset', fileName: `model/${name}`, source: readFileSync(file) });
  },
};

export default defineConfig({
  base: './',
  plugins: [modelFiles],
  worker: { format: 'es' },
  build: { target: 'es2022', modulePreload: false },
});
