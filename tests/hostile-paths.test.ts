import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { openFile, openFolder } from '@detailflow/checkpoint/node';
import { openModel, readImage } from 'detailflow';
import { afterAll, describe, test } from 'vitest';
import { refused } from './refused';

// What files from strangers may try, by the names under which such attacks are known. Everything must be loaded as
// it stands or be refused with a typed error that names the file; nothing may be executed, hang or eat the memory.

const folder = mkdtempSync(path.join(tmpdir(), 'detailflow-hostile-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
describe('files that are no files', () => {
  const at = (name: string) => path.join(folder, name);

  test.skipIf(process.platform === 'win32')('a named pipe without a writer does not block', async () => {
    execFileSync('mkfifo', [at('pipe')]);
    await refused(() => openFile(at('pipe')), 'io', /not a regular file/);
    await refused(() => readImage(at('pipe'), 8), 'io', /not a regular file/);
    mkdirSync(at('official/checkpoints'), { recursive: true });
    writeFileSync(at('official/config.json'), '{}');
    execFileSync('mkfifo', [at('official/checkpoints/1.pt')]);
    await refused(() => openModel({ tokenizer: at('official') }), 'io', /not a regular file/);
  });

  test.skipIf(process.platform === 'win32')('neither do devices', async () => {
    await refused(() => openFile('/dev/zero'), 'io', /not a regular file/);
    await refused(() => readImage('/dev/zero', 8), 'io', /not a regular file/);
  });

  test('folders', async () => {
    await refused(() => openFile(folder), 'io');
    const tree = await openFolder(folder);
    await refused(() => tree.open('../x'), 'invalid-argument');
    await refused(() => tree.open('/etc/passwd'), 'invalid-argument');
  });

  test('an image of a kind that nobody asked for never reaches its decoder', async () => {
    const bomb = `<?xml version="1.0"?><!DOCTYPE s [<!ENTITY a "${'x'.repeat(1000)}">]><svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><text>&a;</text></svg>`;
    for (const [name, text] of Object.entries({
      'x.png': bomb,
      'y.png': '%PDF-1.4',
      'z.png': '    ftypheic',
    })) {
      writeFileSync(at(name), text);
      await refused(() => readImage(at(name), 8), 'unsupported', /save it as PNG, JPEG, WebP/);
    }
    for (const [name, text] of Object.entries({
      'u.png': 'GIF89a',
      'v.png': 'II*\0',
      'w.png': '    ftypavif',
    })) {
      writeFileSync(at(name), text);
      await refused(() => readImage(at(name), 8), 'format');
    }
  });
});
