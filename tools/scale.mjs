// What a number of pictures costs on one machine and on many: the tables of docs/scale.md.
//   node tools/scale.mjs                                  the figures of docs/scale.md
//   node tools/scale.mjs --draw 0.3 --machines 1,16       your own
//   node tools/scale.mjs --write                          puts the tables into docs/scale.md
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

/** Seconds unless said; where each was measured stands in docs/scale.md. */
export const measured = {
  pictures: 50_000,
  /** Pictures of a shard. */
  shard: 64,
  /** To draw a picture, decoder included, on one machine. */
  draw: 1.33,
  /** To compute the features of a picture there. */
  features: 1 / 36.9,
  /** Until a worker has its model. */
  start: 1.4,
  /** To sum the features of a picture up, where the command runs. */
  merge: 82 / 50_000,
  /** The queue's own for a shard. */
  queue: 0.0012,
  /** Bytes that a picture's features are. */
  bytes: 4 * (2048 + 2023 + 1008),
  machines: [1, 8, 64],
};

/**
 * Every machine computes whole shards, so the last round may leave some idle. The command sums up while they compute: it only adds
 * what it cannot hide, its own time where that is longer, else that of the last shard.
 */
export function costs(figures) {
  const { pictures, shard, draw, features, start, merge, queue, bytes } = figures;
  const shards = Math.ceil(pictures / shard);
  const seconds = shard * (draw + features);
  return figures.machines.map((machines) => {
    const rounds = Math.ceil(shards / machines);
    const computing = start + rounds * (seconds + queue);
    const merging = shards * (queue + shard * merge);
    const total = Math.max(computing, start + seconds + merging) + shard * merge;
    const alone = start + shards * seconds + shards * shard * merge;
    return {
      ...{ machines, rounds, total, merging, speedup: alone / total },
      idle: 1 - shards / (rounds * machines),
      bytesPerSecond: (pictures * bytes) / computing,
    };
  });
}

/** How many machines it takes until something else than machines is the limit. */
export function limits({ shard, draw, features, merge, queue }) {
  const seconds = shard * (draw + features);
  return { merge: seconds / (shard * merge), queue: seconds / queue };
}

/** What a GPU may be faster by. */
const FAST = 100;

const count = (machines) => Math.ceil(machines).toLocaleString('en-US');

const time = (seconds) =>
  seconds >= 5400
    ? `${(seconds / 3600).toFixed(1)} h`
    : `${(seconds / 60).toFixed(seconds < 600 ? 1 : 0)} min`;

export function tables(figures) {
  const rows = costs(figures).map(
    ({ machines, rounds, total, speedup, idle, merging, bytesPerSecond }) =>
      `| ${machines} | ${time(total)} | ${speedup.toFixed(1)} | ${rounds} | ${(100 * idle).toFixed(1)} % | ${time(merging)} | ${(bytesPerSecond / 1e6).toFixed(2)} |`,
  );
  const { merge, queue } = limits(figures);
  const shards = count(figures.pictures / figures.shard);
  const draw = figures.draw / FAST;
  const [drawing, both] = [figures.features, figures.features / FAST].map((features) =>
    count(limits({ ...figures, draw, features }).merge),
  );
  return [
    '| machines | until the figures are there | times as fast as one process | shards a machine | idle, of all machine time | of it summing up, hidden behind the machines | MB/s of results |',
    '|---|---|---|---|---|---|---|',
    ...rows,
    '',
    `Summing up is the limit from ${count(merge)} such machines on, the queue itself from ${count(Math.ceil(queue / 1000) * 1000)}, in jobs with as many shards (this one has ${shards}). Where machines draw a hundred times as fast, summing up is the limit from ${drawing} on; where they compute features a hundred times as fast, too, from ${both} on.`,
  ].join('\n');
}

/** The document with fresh tables in it. */
export const withTables = (text) =>
  text.replace(
    /(<!-- node tools\/scale\.mjs -->\n).*?(<!-- end -->)/s,
    (_, before, after) => `${before}\n${tables(measured)}\n\n${after}`,
  );

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const names = Object.keys(measured);
  const { values } = parseArgs({
    options: {
      write: { type: 'boolean' },
      ...Object.fromEntries(names.map((name) => [name, { type: 'string' }])),
    },
  });
  const figures = { ...measured };
  for (const name of names) {
    if (values[name] === undefined) continue;
    const list = values[name].split(',').map(Number);
    if (!list.every((value) => Number.isFinite(value) && value > 0)) {
      process.stderr.write(`--${name} "${values[name]}": give a number above 0\n`);
      process.exit(2);
    }
    figures[name] = name === 'machines' ? list : list[0];
  }
  const given = names.find((name) => values[name] !== undefined);
  if (values.write && given !== undefined) {
    process.stderr.write(`--write writes the figures that were measured: leave out --${given}\n`);
    process.exit(2);
  }
  if (values.write) {
    const file = fileURLToPath(new URL('../docs/scale.md', import.meta.url));
    writeFileSync(file, withTables(readFileSync(file, 'utf8')));
  } else process.stdout.write(`${tables(figures)}\n`);
}
