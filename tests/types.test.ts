import { rmSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { writePrograms } from './snippets';

const root = fileURLToPath(new URL('..', import.meta.url));
// Inside the repository, where packages are found as they are in a project that has installed them.
const folder = path.join(root, 'examples', '.types');
const files: string[] = [];

beforeAll(() => {
  files.push(...writePrograms(folder));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const { Node16, NodeNext, ESNext } = ts.ModuleKind;
const resolutions = {
  node16: { module: Node16, moduleResolution: ts.ModuleResolutionKind.Node16 },
  nodenext: { module: NodeNext, moduleResolution: ts.ModuleResolutionKind.NodeNext },
  bundler: { module: ESNext, moduleResolution: ts.ModuleResolutionKind.Bundler },
};

describe.each(Object.entries(resolutions))('with %s resolution', (_, resolution) => {
  test('every program of the READMEs and every example is sound under strict', { timeout: 300_000 }, () => {
    expect(files.length).toBeGreaterThan(20);
    const program = ts.createProgram(files, {
      ...resolution,
      ...{ target: ts.ScriptTarget.ES2022, strict: true, noEmit: true, types: ['node'] },
      skipLibCheck: true,
    });
    expect(problems(ts.getPreEmitDiagnostics(program))).toEqual([]);
  });
});

test('the declarations themselves hold without skipLibCheck', { timeout: 300_000 }, () => {
  const program = ts.createProgram(files, {
    ...resolutions.nodenext,
    ...{ target: ts.ScriptTarget.ES2022, strict: true, noEmit: true, types: ['node', '@webgpu/types'] },
  });
  const own = ts.getPreEmitDiagnostics(program).filter(({ file }) => file && !isForeign(file.fileName));
  expect(problems(own)).toEqual([]);
});

/** Of packages of other projects. */
const isForeign = (file: string): boolean => file.includes('/node_modules/');

function problems(diagnostics: readonly ts.Diagnostic[]): string[] {
  return diagnostics.map(({ file, start = 0, messageText }) => {
    const line = file
      ? `${path.basename(file.fileName)}:${file.getLineAndCharacterOfPosition(start).line + 1} `
      : '';
    return line + ts.flattenDiagnosticMessageText(messageText, ' ');
  });
}
