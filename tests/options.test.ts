import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { expect, test } from 'vitest';

const packages = fileURLToPath(new URL('../packages/', import.meta.url));

/** Their options are settings of a recipe, which are checked where it is read, or are given by one class alone. */
const elsewhere = new Set([
  'tokenizer/training.ts trainingForward',
  'train/learner.ts Learner.compile',
  'train/schedule.ts tokenizerSchedule',
  'train/schedule.ts tokenModelSchedule',
]);

/** Functions and methods of a package's public names that take an object called `options`. */
function functionsWithOptions(): { name: string; body: string }[] {
  const found: { name: string; body: string }[] = [];
  for (const place of readdirSync(packages)) {
    const src = path.join(packages, place, 'src');
    const names = publicNames(src);
    for (const file of readdirSync(src, { recursive: true, encoding: 'utf8' })) {
      if (!file.endsWith('.ts') || file.endsWith('.test.ts') || /(^|\/)(index|node)\.ts$/.test(file))
        continue;
      const source = ts.createSourceFile(file, readFileSync(path.join(src, file), 'utf8'), 99, true);
      source.forEachChild((node) => {
        if (ts.isFunctionDeclaration(node) && node.name && names.has(node.name.text))
          add(node, node.name.text);
        if (!ts.isClassDeclaration(node) || !node.name || !names.has(node.name.text)) return;
        for (const member of node.members) {
          if (!ts.isMethodDeclaration(member) || ts.isPrivateIdentifier(member.name)) continue;
          add(member, `${node.name.text}.${member.name.getText()}`);
        }
      });
      function add(node: ts.FunctionDeclaration | ts.MethodDeclaration, name: string) {
        if (!node.body || !node.parameters.some((one) => one.name.getText() === 'options')) return;
        found.push({ name: `${place}/${file} ${name}`, body: node.body.getText() });
      }
    }
  }
  return found;
}

function publicNames(src: string): Set<string> {
  const lists = readdirSync(src).filter((name) => name === 'index.ts' || name === 'node.ts');
  return new Set(lists.flatMap((name) => readFileSync(path.join(src, name), 'utf8').match(/\w+/g) ?? []));
}

/** Checks them itself, or hands them on as they are. */
const checks = /checkOptions\(|[(,]\s*options,?\s*\)/;

test('no method of a class takes the options of a call apart before they are checked', () => {
  const found: string[] = [];
  for (const place of readdirSync(packages)) {
    const src = path.join(packages, place, 'src');
    for (const file of readdirSync(src, { recursive: true, encoding: 'utf8' })) {
      if (!file.endsWith('.ts') || file.endsWith('.test.ts')) continue;
      const source = ts.createSourceFile(file, readFileSync(path.join(src, file), 'utf8'), 99, true);
      source.forEachChild((node) => {
        if (!ts.isClassDeclaration(node)) return;
        for (const member of node.members) {
          if (!ts.isMethodDeclaration(member) || ts.isPrivateIdentifier(member.name)) continue;
          if (member.modifiers?.some(({ kind }) => kind === ts.SyntaxKind.ProtectedKeyword)) continue;
          const isApart = member.parameters.some(
            ({ name, type }) => ts.isObjectBindingPattern(name) && type?.getText().includes('CallOptions'),
          );
          if (isApart) found.push(`${place}/${file} ${node.name?.text}.${member.name.getText()}`);
        }
      });
    }
  }
  expect(found).toEqual([]);
});

test('whoever takes options refuses those that nobody would look at', () => {
  const all = functionsWithOptions();
  expect(all.length).toBeGreaterThan(60);
  const unchecked = all.filter(({ name, body }) => !elsewhere.has(name) && !checks.test(body));
  expect(unchecked.map(({ name }) => name)).toEqual([]);
});
