// The public surface of a package as text: every exported declaration without its comments, and what those refer to.
import path from 'node:path';
import ts from 'typescript';
import { packages, root } from './packages.mjs';

const printer = ts.createPrinter({ removeComments: true });

/**
 * @typedef {object} Export
 * @property {string} specifier what an import says
 * @property {string} name
 * @property {boolean} isDocumented
 * @property {string} file where it is declared, from the root
 */

/** Reads the built declarations of all packages at once. */
export function readSurface() {
  const all = packages();
  const files = all.flatMap(({ entries }) => entries.map(({ types }) => path.join(root, types)));
  const missing = files.find((file) => !ts.sys.fileExists(file));
  if (missing) throw new Error(`${path.relative(root, missing)} is not there: run "npm run build" first`);
  const program = ts.createProgram(files, {
    ...{ target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext, skipLibCheck: true, noEmit: true },
    ...{
      moduleResolution: ts.ModuleResolutionKind.Bundler,
      types: [],
      lib: ['lib.es2023.d.ts', 'lib.dom.d.ts'],
    },
  });
  return { all, program, checker: program.getTypeChecker() };
}

/** Exported names of an entry with their declarations, in alphabetical order. */
function exportsOf({ program, checker }, entry) {
  const source = program.getSourceFile(path.join(root, entry.types));
  return checker
    .getExportsOfModule(checker.getSymbolAtLocation(source))
    .map((symbol) => {
      const target = symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol;
      return { name: symbol.name, target, declarations: target.declarations ?? [] };
    })
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** @returns {Export[]} every exported name of every package */
export function exportedNames(surface = readSurface()) {
  return surface.all.flatMap(({ entries }) =>
    entries.flatMap((entry) =>
      exportsOf(surface, entry).map(({ name, target, declarations }) => ({
        specifier: entry.specifier,
        name,
        isDocumented: target.getDocumentationComment(surface.checker).length > 0,
        file: path.relative(root, declarations[0]?.getSourceFile().fileName ?? entry.types),
      })),
    ),
  );
}

/**
 * What descriptions say of things that are not there: parameters of other names, links to what is not exported.
 * @returns {string[]} one line a fault
 */
export function wrongDescriptions(surface = readSurface()) {
  const { all, checker } = surface;
  const known = new Set();
  const declared = new Map();
  for (const { name, entries } of all) {
    for (const { name: exported, declarations } of entries.flatMap((entry) => exportsOf(surface, entry))) {
      known.add(exported);
      for (const one of declarations) declared.set(one, `${name}: ${exported}`);
    }
  }
  return [...declared].flatMap(([declaration, where]) => {
    const faults = [];
    const members = new Set((declaration.members ?? []).map(({ name }) => name?.getText()));
    const visit = (node) => {
      if (isPrivate(node)) return;
      if (ts.isFunctionLike(node)) faults.push(...wrongParameters(checker, node));
      for (const comment of node.jsDoc ?? []) faults.push(...deadDocLinks(comment, [known, members]));
      ts.forEachChild(node, visit);
    };
    visit(ts.isVariableDeclaration(declaration) ? declaration.parent.parent : declaration);
    return faults.map((fault) => `${where}: ${fault}`);
  });
}

/** `@param` tags of a function that describe no parameter, or no property of one. */
function wrongParameters(checker, node) {
  const tags = ts.getJSDocTags(node).filter(ts.isJSDocParameterTag);
  const parameters = node.parameters;
  const plain = tags.filter(({ name }) => ts.isIdentifier(name)).map(({ name }) => name.text);
  // A parameter that is taken apart has no name of its own: tags name it by their order, so there must be one for each.
  const isOrdered = plain.length === parameters.length;
  const named = (name) =>
    parameters.find((one) => ts.isIdentifier(one.name) && one.name.text === name) ??
    (isOrdered
      ? parameters.filter((_, i) => plain[i] === name).find((one) => !ts.isIdentifier(one.name))
      : undefined);
  return tags.flatMap(({ name: path }) => {
    const [name, ...rest] = path.getText().split('.');
    let parameter = named(name);
    // Where nothing else is described, the last one that is taken apart is meant.
    if (!parameter && plain.length === 0 && parameters.length === 1) parameter = parameters[0];
    if (!parameter) return [`@param ${path.getText()} is none of its parameters`];
    const type = checker.getNonNullableType(checker.getTypeAtLocation(parameter));
    const types = type.isUnion() ? type.types : [type];
    const isThere = rest.length === 0 || types.some((one) => checker.getPropertyOfType(one, rest[0]));
    return isThere ? [] : [`@param ${path.getText()} is no property of ${name}`];
  });
}

/** `{@link NAME}` of a comment that lead to nothing that is exported, nor to what stands beside it. */
function deadDocLinks(comment, known) {
  return [...comment.getText().matchAll(/\{@link (?!https?:)([\w$]+)[^}]*\}/g)]
    .filter(([, name]) => !known.some((names) => names.has(name)))
    .map(([link]) => `${link} leads nowhere`);
}

/** Package -> its report. */
export function apiReports(surface = readSurface()) {
  return new Map(surface.all.map((one) => [one.folder, report(surface, one)]));
}

function report(surface, { name, folder, entries }) {
  const inside = (declaration) =>
    declaration.getSourceFile().fileName.startsWith(path.join(root, folder, 'dist'));
  const named = new Set();
  const parts = entries.map((entry) => {
    const lines = exportsOf(surface, entry).map(({ name: exported, target, declarations }) => {
      const own = declarations.filter(inside);
      if (own.length === 0) return `export { ${exported} } from '${origin(surface, declarations[0])}';`;
      named.add(target);
      const text = own.map(print).join('\n');
      return target.name === exported ? text : `${text}\nexport { ${target.name} as ${exported} };`;
    });
    return `## ${entry.specifier}\n\n\`\`\`ts\n${lines.join('\n\n')}\n\`\`\`\n`;
  });
  const hidden = [...referredTo(surface, named, inside)]
    .filter((symbol) => !named.has(symbol))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .map((symbol) => symbol.declarations.filter(inside).map(print).join('\n'));
  const more =
    hidden.length === 0 ? [] : [`## Named above, not exported\n\n\`\`\`ts\n${hidden.join('\n\n')}\n\`\`\`\n`];
  return [
    `# The surface of ${name}\n\nWritten by \`npm run api\` from the built declarations.\n`,
    ...parts,
    ...more,
  ].join('\n');
}

/** The package that a declaration of another one comes from. */
function origin({ all }, declaration) {
  const file = declaration?.getSourceFile().fileName ?? '';
  const own = all.find(({ folder }) => file.startsWith(path.join(root, folder, 'dist')));
  return own?.name ?? /.*\/node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(file)?.[1] ?? 'elsewhere';
}

/** All symbols of the package that its exported declarations refer to, and what those refer to. */
function referredTo({ checker }, named, inside) {
  const found = new Set();
  const queue = [...named];
  while (queue.length > 0) {
    const symbol = queue.pop();
    const visit = (node) => {
      if (isPrivate(node)) return;
      if (ts.isIdentifier(node)) {
        let other = checker.getSymbolAtLocation(node);
        if (other && other.flags & ts.SymbolFlags.Alias) other = checker.getAliasedSymbol(other);
        const isTop = other?.declarations?.some((one) => inside(one) && isTopLevel(one));
        if (isTop && !found.has(other)) {
          found.add(other);
          queue.push(other);
        }
      }
      ts.forEachChild(node, visit);
    };
    for (const declaration of (symbol.declarations ?? []).filter(inside)) visit(declaration);
  }
  return found;
}

const isTopLevel = (declaration) => {
  const statement = ts.isVariableDeclaration(declaration) ? declaration.parent.parent : declaration;
  return ts.isSourceFile(statement.parent);
};

const isPrivate = (node) =>
  (ts.isClassElement(node) && node.name && ts.isPrivateIdentifier(node.name)) ||
  (ts.canHaveModifiers(node) &&
    (ts.getModifiers(node) ?? []).some(({ kind }) => kind === ts.SyntaxKind.PrivateKeyword));

/** A declaration without comments and without private members. */
function print(declaration) {
  const node = ts.isVariableDeclaration(declaration) ? declaration.parent.parent : declaration;
  const { transformed } = ts.transform(node, [
    (context) => (top) => {
      const visit = (child) => (isPrivate(child) ? undefined : ts.visitEachChild(child, visit, context));
      return ts.visitNode(top, visit);
    },
  ]);
  return printer
    .printNode(ts.EmitHint.Unspecified, transformed[0], declaration.getSourceFile())
    .replace(/^(export )?declare /, '');
}
