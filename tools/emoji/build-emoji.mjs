// Builds a folder of emoji pictures, a folder inside for each class, from npm packages alone: the same bytes every time.
//   node tools/emoji/build-emoji.mjs OUT [--classes coherent|all|LIST] [--sets all|LIST] [--size 64] [--margin 2] [--dry]
// Fetches the packages of tools/emoji/package-lock.json into tools/emoji/node_modules first (npm ci). Writes
// OUT/images/CLASS/CODE__SET__NAME.png, OUT/manifest.json (every picture), OUT/report.json (counts, and what was left
// out and why) and OUT/CREDITS.md. CODE are the code points without skin tone: all drawings and tones of one emoji share
// them, which is what `"groupBy": "__"` of the settings of a training needs to hold them out together.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { classOf, coherent } from './classes.mjs';
import { drawIcon } from './draw.mjs';
import { readEmojiList, untoned } from './emoji-list.mjs';
import { alike, credits, readIcons } from './icon-sets.mjs';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    classes: { type: 'string', default: 'coherent' },
    sets: { type: 'string', default: alike.join(',') },
    size: { type: 'string', default: '64' },
    margin: { type: 'string', default: '2' },
    jobs: { type: 'string', default: `${availableParallelism()}` },
    dry: { type: 'boolean', default: false },
  },
});
const here = path.dirname(fileURLToPath(import.meta.url));
const [size, margin, jobs] = ['size', 'margin', 'jobs'].map((name) => Number(values[name]));
const sets = values.sets === 'all' ? Object.keys(credits) : values.sets.split(',');
const unknownSet = sets.find((set) => !Object.hasOwn(credits, set));
const bad = [
  [positionals.length !== 1, 'give one folder to write into'],
  [unknownSet !== undefined, `there is no set "${unknownSet}"; there are ${Object.keys(credits).join(', ')}`],
  [!(Number.isInteger(size) && size >= 16 && size <= 512), '--size is a whole number from 16 to 512'],
  [!(Number.isInteger(margin) && margin >= 0 && 4 * margin < size), '--margin is below a quarter of --size'],
  [!(Number.isInteger(jobs) && jobs >= 1), '--jobs is a whole number from 1'],
].find(([wrong]) => wrong);
if (bad) {
  console.error(
    `${bad[1]}\nusage: node tools/emoji/build-emoji.mjs OUT [--classes LIST] [--sets LIST] [--size N] [--margin N] [--jobs N] [--dry]`,
  );
  process.exit(2);
}

fetchPackages();
const json = async (...parts) =>
  JSON.parse(await readFile(path.join(here, 'node_modules', ...parts), 'utf8'));
const left = {};
const leave = (why, set, name) => {
  left[why] ??= {};
  left[why][set] ??= [];
  left[why][set].push(name);
};
const list = await readEmojiList(json);
const found = await readIcons(json, list, { sets, leave });
const wanted = chosenClasses();
const tasks = [];
for (const { what, ...task } of found.tasks) {
  const label = classOf(what);
  if (label === undefined) leave('without class', task.set, task.name);
  else if (!wanted.has(label)) leave('of another class', task.set, task.name);
  else tasks.push({ ...task, label, what });
}
if (values.dry) {
  console.log(JSON.stringify({ pictures: tasks.length, counts: countsOf(tasks), left }, undefined, 1));
  process.exit(0);
}

const out = path.resolve(positionals[0]);
const fresh = path.join(out, 'images.part');
await rm(fresh, { recursive: true, force: true });
const manifest = [];
let next = 0;
await Promise.all(Array.from({ length: jobs }, work));
manifest.sort((a, b) => (a.file < b.file ? -1 : 1));
await rm(path.join(out, 'images'), { recursive: true, force: true });
await rename(fresh, path.join(out, 'images'));
for (const names of Object.values(left).flatMap(Object.values)) names.sort();
const report = { pictures: manifest.length, counts: countsOf(manifest), left };
const lines = manifest.map((one) => JSON.stringify(one)).join(',\n');
await writeFile(path.join(out, 'manifest.json'), `[\n${lines}\n]\n`);
await writeFile(path.join(out, 'report.json'), `${JSON.stringify(report, undefined, 1)}\n`);
await writeFile(path.join(out, 'CREDITS.md'), creditsText());
console.log(`${manifest.length} pictures of ${Object.keys(report.counts).length} classes in ${out}`);
for (const why of ['blank', 'not drawn']) {
  const names = Object.entries(left[why] ?? {}).flatMap(([set, all]) => all.map((name) => `${set}/${name}`));
  if (names.length > 0) console.log(`${why}: ${names.join(', ')}`);
}

async function work() {
  while (next < tasks.length) {
    const { set, name, code, label, what, ...drawing } = tasks[next++];
    let png;
    try {
      png = await drawIcon(drawing, { size, margin });
    } catch (error) {
      leave('not drawn', set, `${name}: ${error.message.slice(0, 100)}`);
      continue;
    }
    if (!png) {
      leave('blank', set, name);
      continue;
    }
    const group = untoned(code);
    const folder = label.replaceAll(' ', '-');
    const file = `${group}__${set}__${name}.png`;
    await mkdir(path.join(fresh, folder), { recursive: true });
    await writeFile(path.join(fresh, folder, file), png);
    manifest.push({ file: `images/${folder}/${file}`, label, set, code, group, name: what.label });
    if (manifest.length % 1000 === 0) console.error(`${manifest.length}/${tasks.length}`);
  }
}

/** The packages of the lock file, as they are: a package of another content is refused by npm. */
function fetchPackages() {
  const marker = path.join(here, 'node_modules', '.package-lock.json');
  if (existsSync(marker)) return;
  const { status } = spawnSync('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund'], {
    cwd: here,
    stdio: ['ignore', 'inherit', 'inherit'],
    shell: process.platform === 'win32',
  });
  if (status !== 0) process.exit(status ?? 1);
}

function chosenClasses() {
  const all = new Set(found.tasks.map(({ what }) => classOf(what)).filter(Boolean));
  if (values.classes === 'all') return all;
  const names = values.classes === 'coherent' ? coherent : values.classes.split(',');
  const unknown = names.find((name) => !all.has(name));
  if (unknown === undefined) return new Set(names);
  console.error(`there is no class "${unknown}"; there are ${[...all].sort().join(', ')}`);
  process.exit(2);
}

/** Pictures by class and set. */
function countsOf(pictures) {
  const counts = {};
  for (const { label, set } of pictures) {
    counts[label] ??= {};
    counts[label][set] = (counts[label][set] ?? 0) + 1;
  }
  return counts;
}

function creditsText() {
  const rows = sets.map((set) => {
    const { title, author, licence, source } = credits[set];
    const count = manifest.filter((one) => one.set === set).length;
    const cells = [title, author, licence, `<${source}>`, `@iconify-json/${set} ${found.versions.get(set)}`];
    return `| ${[...cells, count].join(' | ')} |`;
  });
  return [
    '# Where these pictures come from',
    '',
    'Drawings were cut to what is there, scaled and laid on white; nothing else was changed.',
    '',
    '| drawings | by | licence | source | package | pictures |',
    '|---|---|---|---|---|---|',
    ...rows,
    '',
    ...sets.flatMap((set) => (credits[set].wording ? [credits[set].wording, ''] : [])),
    'Licences: MIT <https://spdx.org/licenses/MIT.html>, Apache-2.0 <https://www.apache.org/licenses/LICENSE-2.0>,',
    'CC-BY-4.0 <https://creativecommons.org/licenses/by/4.0/>. Names, code points and groups: emojibase-data 17.0.0, MIT.',
    '',
  ].join('\n');
}
