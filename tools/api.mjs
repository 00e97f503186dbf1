// `npm run api` writes packages/NAME/api.md; `npm run api -- --check` says where the surface is another one.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { apiReports } from './api-report.mjs';
import { root } from './packages.mjs';

const isCheck = process.argv.includes('--check');
let changed = 0;
for (const [folder, report] of apiReports()) {
  const file = path.join(root, folder, 'api.md');
  const before = existsSync(file) ? readFileSync(file, 'utf8') : '';
  if (before === report) continue;
  changed++;
  if (!isCheck) {
    writeFileSync(file, report);
    console.log(`${folder}/api.md`);
    continue;
  }
  const [old, now] = [before, report].map((text) => text.split('\n'));
  const differing = (a, b, mark) =>
    a.filter((line) => line.trim() !== '' && !b.includes(line)).map((line) => `  ${mark} ${line}`);
  const lines = [...differing(old, now, '-'), ...differing(now, old, '+')];
  console.error([`${folder}: the surface is not that of api.md`, ...lines.slice(0, 12)].join('\n'));
  if (lines.length > 12) console.error(`  ... ${lines.length - 12} more lines`);
}
if (isCheck && changed > 0) {
  console.error('If that is meant: "npm run build && npm run api", and commit the reports with the change.');
  process.exit(1);
}
