// Pictures a second of a server with one client and with many, and how long they wait: a full-size generator with random weights.
//   node tools/bench-serve.mjs [--model DIR] [--dtype q8] [--clients 8] [--pictures 24] [--batch 8] [--json FILE]
// Each client asks for one picture after the other, with one preview; what is compared runs on one server, one after the other.
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import OpenAI from 'openai';

const { values } = parseArgs({
  options: {
    model: { type: 'string' },
    dtype: { type: 'string', default: 'q8' },
    clients: { type: 'string', default: '8' },
    pictures: { type: 'string', default: '24' },
    batch: { type: 'string', default: '8' },
    json: { type: 'string' },
  },
});
const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const folder = values.model ?? path.join(root, 'runs', 'full-128-released');
if (!existsSync(folder)) {
  console.error('making the checkpoint ...');
  const script = path.join(root, 'tools', 'make-checkpoint.mjs');
  execFileSync(process.execPath, [script, folder, '--tokens', '128', '--decoder', 'released']);
}

const child = spawn(
  process.execPath,
  [
    path.join(root, 'packages/detailflow/dist/cli.js'),
    ...['serve', '--model', folder, '--port', '0', '--dtype', values.dtype, '--max-batch', values.batch],
    ...['--timeout', '86400'],
  ],
  { stdio: ['ignore', 'pipe', 'inherit'] },
);
const url = await new Promise((resolve, reject) => {
  let found;
  createInterface({ input: child.stdout }).on('line', (line) => {
    const entry = JSON.parse(line);
    if (entry.event === 'listening') found = entry.url;
    if (entry.event === 'ready') resolve(found);
  });
  child.once('exit', (code) => reject(new Error(`the server ended with ${code}`)));
});
const client = new OpenAI({ apiKey: 'none', baseURL: `${url}/v1`, maxRetries: 0, timeout: 86_400_000 });

const results = [];
for (const clients of [1, Number(values.clients)]) {
  await draw(1, clients); // memory is taken, and code is hot
  results.push(await draw(clients, Number(values.pictures)));
}
const [one, many] = results;
console.log(`${values.dtype}, batch ${values.batch}, ${values.pictures} pictures a row`);
for (const result of results) {
  const { clients, rate, preview, picture } = result;
  const both = ([middle, high]) => `${middle.toFixed(2)} / ${high.toFixed(2)}`;
  console.log(
    `${clients} client${clients === 1 ? '' : 's'}: ${rate.toFixed(2)} pictures/s; p50/p95 in s: first preview ${both(preview)}, picture ${both(picture)}`,
  );
}
console.log(`${(many.rate / one.rate).toFixed(2)} times the pictures of one client`);
if (values.json) writeFileSync(values.json, `${JSON.stringify(results, null, 2)}\n`);
child.removeAllListeners('exit');
child.kill('SIGTERM');

async function draw(clients, pictures) {
  const [previews, times] = [[], []];
  let next = 0;
  const started = performance.now();
  const work = async () => {
    while (next < pictures) {
      const seed = 1000 * next++;
      const asked = performance.now();
      const stream = await client.images.generate({
        ...{ prompt: '', class: seed % 7, seed, cfg: 1.45 },
        ...{ stream: true, partial_images: 1, output_format: 'jpeg', output_compression: 90 },
      });
      for await (const { type } of stream) {
        const list = type === 'image_generation.completed' ? times : previews;
        list.push((performance.now() - asked) / 1000);
      }
    }
  };
  await Promise.all(Array.from({ length: clients }, work));
  const seconds = (performance.now() - started) / 1000;
  return { clients, rate: pictures / seconds, preview: quantiles(previews), picture: quantiles(times) };
}

/** The median and the 95th percentile. */
function quantiles(list) {
  const sorted = [...list].sort((a, b) => a - b);
  const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
  return [at(0.5), at(0.95)];
}
