/** Static imports, which a function's body cannot have. */
const imports = /^[ \t]*import\s+(?:\{([^}]*)\}|\*\s+as\s+(\w+))\s+from\s+(['"])([^'"\n]+)\3[ \t]*;?/gm;

/**
 * The body of an async function that does what a module does: its imports become reads of `modules`.
 * @param known names of the modules that there are
 * @throws Error naming a module that is not among them, or a form of import that is not understood
 */
export function runnable(code: string, known: readonly string[]): string {
  const body = code.replace(
    imports,
    (_, names: string | undefined, all: string | undefined, _quote, from: string) => {
      if (!known.includes(from)) throw new Error(`"${from}" is not here; there are: ${known.join(', ')}`);
      const module = `modules[${JSON.stringify(from)}]`;
      return names === undefined
        ? `const ${all} = ${module};`
        : `const {${names.replace(/\bas\b/g, ':')}} = ${module};`;
    },
  );
  const left = /^[ \t]*import\s[^(].*/m.exec(body)?.[0];
  if (left) throw new Error(`only imports of names are understood here, not: ${left.trim()}`);
  return body;
}
