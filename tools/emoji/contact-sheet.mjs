// A sheet of the pictures that build-emoji.mjs made: a row for each class, drawings of all sets in turn.
//   node tools/emoji/contact-sheet.mjs EMOJI OUT.png [--columns 12] [--side 32]
// Whoever shows it must show EMOJI/CREDITS.md beside it.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import sharp from 'sharp';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { columns: { type: 'string', default: '12' }, side: { type: 'string', default: '32' } },
});
const [emoji, out] = positionals;
const [columns, side] = ['columns', 'side'].map((name) => Number(values[name]));
if (!emoji || !out || !Number.isInteger(columns) || columns < 1 || !Number.isInteger(side) || side < 1) {
  console.error('usage: node tools/emoji/contact-sheet.mjs EMOJI OUT.png [--columns N] [--side PIXELS]');
  process.exit(2);
}
const gap = 2;
const manifest = JSON.parse(readFileSync(path.join(emoji, 'manifest.json'), 'utf8'));
const classes = groupByLabel(manifest);
const tiles = await Promise.all(
  [...classes.keys()].sort().flatMap((label, row) =>
    spread(classes.get(label), columns).map(async ({ file }, column) => ({
      input: await sharp(path.join(emoji, file)).resize(side, side).toBuffer(),
      left: gap + column * (side + gap),
      top: gap + row * (side + gap),
    })),
  ),
);
const [width, height] = [columns, classes.size].map((count) => gap + count * (side + gap));
await sharp({ create: { width, height, channels: 3, background: '#fff' } })
  .composite(tiles)
  .png({ palette: true, compressionLevel: 9 })
  .toFile(out);
console.log(
  `${out}: ${tiles.length} pictures of ${classes.size} classes, from above: ${[...classes.keys()].sort().join(', ')}`,
);

function groupByLabel(all) {
  const groups = new Map();
  for (const one of all) groups.set(one.label, [...(groups.get(one.label) ?? []), one]);
  return groups;
}

/** So many of them, at even distances, hence of different emoji and sets. */
function spread(all, count) {
  if (all.length <= count) return all;
  return Array.from({ length: count }, (_, i) => all[Math.floor((i * all.length) / count)]);
}
