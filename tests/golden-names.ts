import { readdirSync, readFileSync } from 'node:fs';
import ts from 'typescript';
import { golden, goldenJson } from './golden';

/** What a test file says: the golden files that it opens, and every word it could ask for a value with. */
interface Words {
  readonly files: readonly RegExp[];
  readonly names: readonly RegExp[];
  /** Names of properties. */
  readonly keys: ReadonlySet<string>;
}

const escaped = (text: string) => text.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&');

/** Fewer letters than this, in what a template or an expression says itself, tell nothing of what is asked for. */
const FEWEST_LETTERS = 4;
const tells = (text: string) => text.replaceAll(/[^a-z]/gi, '').length >= FEWEST_LETTERS;

/** A string or a template, each gap of which stands for something; undefined for other nodes. */
function patternOf(node: ts.Node): string | undefined {
  if (ts.isStringLiteral(node) || ts.isNoSubstitutionTemplateLiteral(node)) return escaped(node.text);
  if (!ts.isTemplateExpression(node)) return undefined;
  const parts = [node.head.text, ...node.templateSpans.map(({ literal }) => literal.text)];
  return tells(parts.join('')) ? parts.map(escaped).join('.+') : undefined;
}

function wordsOf(file: URL): Words {
  const source = ts.createSourceFile(file.pathname, readFileSync(file, 'utf8'), ts.ScriptTarget.Latest, true);
  const [files, names, keys]: [RegExp[], RegExp[], Set<string>] = [[], [], new Set()];
  const visit = (node: ts.Node): void => {
    const pattern = patternOf(node);
    if (pattern !== undefined && /\\\.(safetensors|json)$/.test(pattern)) {
      files.push(new RegExp(`^(family/)?${pattern}$`));
    } else if (pattern !== undefined) {
      // What ends in a dot is the beginning of names that a test goes through.
      const isBeginning = pattern.endsWith('.') && tells(pattern);
      names.push(new RegExp(`^${pattern}${isBeginning ? '' : '$'}`));
    }
    if (ts.isRegularExpressionLiteral(node) && node.text.startsWith('/^') && tells(node.text)) {
      names.push(new RegExp(node.text.slice(1, node.text.lastIndexOf('/'))));
    }
    if (ts.isIdentifier(node)) keys.add(node.text);
    ts.forEachChild(node, visit);
  };
  visit(source);
  return { files, names, keys };
}

/** What every file of the tests says, but those that look at the names themselves. */
function allWords(): Words[] {
  const folder = new URL('./', import.meta.url);
  const scripts = readdirSync(folder).filter((name) => /^(?!golden-names).*\.ts$/.test(name));
  return scripts.map((name) => wordsOf(new URL(name, folder))).filter(({ files }) => files.length > 0);
}

/** Objects of a .json file that hold the values of one set. */
const SETS = /^(vq|c2i|gqa|t2i|par_g4|par_g16)$/;

/** The names in a golden file of the families; of a .json file, keys and those of the objects that hold a set. */
export function namesIn(file: string): string[] {
  if (file.endsWith('.safetensors')) return Object.keys(golden(file));
  return Object.entries<object>(goldenJson(file)).flatMap(([key, value]) =>
    SETS.test(key) ? Object.keys(value).map((inner) => `${key}.${inner}`) : [key],
  );
}

/** The names of golden files that no test asks for. */
export function unreadNames(files: readonly string[]): Record<string, string[]> {
  const all = allWords();
  const unread = (file: string) => {
    const readers = all.filter((one) => one.files.some((pattern) => pattern.test(file)));
    const isNamed = (name: string) => readers.some(({ names }) => names.some((one) => one.test(name)));
    const isKey = (key: string) => isNamed(key) || readers.some(({ keys }) => keys.has(key));
    const isRead = (name: string) => {
      if (!file.endsWith('.json')) return isKey(name);
      const [, set, key] = /^(\w+)\.(.+)$/.exec(name) ?? [];
      return isNamed(name) || (SETS.test(set) ? isKey(set) && isKey(key) : isKey(name));
    };
    return namesIn(file).filter((name) => !isRead(name));
  };
  return Object.fromEntries(files.map((file) => [file, unread(file)]));
}
