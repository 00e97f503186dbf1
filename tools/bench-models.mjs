// Times the trained models of this repository as a new user meets them: npm run bench -- models [--rounds 5] [--beside DIR] [--json FILE].
// For each: the size of its package as npm would send it, the time from the start of Node to the first preview and to the
// first picture, and pictures per second of the sheet of `npm run demo` (all classes at once). Medians of the rounds, each
// in a process of its own, the models by turns. --beside adds the bundle of a folder, such as an earlier version of a model.
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { availableParallelism, cpus } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const { values } = parseArgs({
  options: {
    ...{ rounds: { type: 'string', default: '5' }, json: { type: 'string' }, child: { type: 'string' } },
    beside: { type: 'string', multiple: true, default: [] },
  },
});
if (values.child) await measure(values.child);
else report();

/** In a process of its own: performance.now() counts from the start of Node. */
async function measure(name) {
  const isPackage = name.startsWith('@');
  const [source, { load }] = await Promise.all([
    isPackage ? import(name) : { modelUrl: name },
    import('detailflow'),
  ]);
  const model = await load(source.modelUrl);
  const cfg = model.card?.recipe?.cfg;
  const times = {};
  for await (const step of model.generate({ labels: [0], seed: 1, cfg })) {
    if (step.count === 8) {
      await step.pixels();
      times.preview = performance.now() / 1000;
    }
    if (step.count === step.total) await step.pixels();
  }
  times.picture = performance.now() / 1000;
  const classes = model.card.classNames.length;
  const labels = Array.from({ length: 8 * classes }, (_, i) => i % classes);
  const begun = performance.now();
  for await (const step of model.generate({ labels, seed: 1, cfg })) {
    if (step.count === step.total) await step.pixels();
  }
  times.perSecond = labels.length / ((performance.now() - begun) / 1000);
  await model.dispose();
  process.stdout.write(JSON.stringify(times));
}

function report() {
  const names = ['@detailflow/model-emoji-64', ...values.beside, '@detailflow/model-fashion-32'];
  const rounds = names.map(() => []);
  for (let round = 0; round < Number(values.rounds); round++) {
    for (const [i, name] of names.entries()) {
      rounds[i].push(JSON.parse(run(process.execPath, fileURLToPath(import.meta.url), '--child', name)));
    }
  }
  const median = (list) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)];
  console.log(`${cpus()[0].model}, ${availableParallelism()} threads; ${values.rounds} rounds`);
  const results = names.map((name, i) => {
    const pack = ['pack', '--dry-run', '--ignore-scripts', '--json', '--workspace', name];
    const size = name.startsWith('@') ? JSON.parse(run('npm', ...pack))[0].size : undefined;
    const of = (figure) => median(rounds[i].map((one) => one[figure]));
    return { name, bytes: size, preview: of('preview'), picture: of('picture'), perSecond: of('perSecond') };
  });
  for (const { name, bytes, preview, picture, perSecond } of results) {
    console.log(
      `${name}: ${bytes === undefined ? '' : `${(bytes / 1e6).toFixed(1)} MB on the wire; `}first preview after ${preview.toFixed(2)} s, ` +
        `first picture after ${picture.toFixed(2)} s, then ${perSecond.toFixed(0)} pictures/s`,
    );
  }
  if (values.json) writeFileSync(values.json, `${JSON.stringify(results, null, 2)}\n`);
}

function run(command, ...args) {
  const { status, stdout } = spawnSync(command, args, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  if (status !== 0) process.exit(status ?? 1);
  return stdout;
}
