import type { FileMetaData } from 'hyparquet';

type Schema = FileMetaData['schema'];

/** The places in a schema of what lies directly in an element; the root is the first. */
export function childrenOf(schema: Schema, at = 0): number[] {
  const children: number[] = [];
  let next = at + 1;
  for (let child = 0; child < (schema[at].num_children ?? 0); child++) {
    children.push(next);
    next = after(schema, next);
  }
  return children;
}

/** The place behind an element of a schema and its children. */
function after(schema: Schema, at: number): number {
  let next = at + 1;
  for (let child = 0; child < (schema[at].num_children ?? 0); child++) next = after(schema, next);
  return next;
}

/** A schema of one column alone, and of `inner` alone within it where it has parts. */
export function schemaOfColumn(schema: Schema, column: string, inner?: string): Schema {
  const top = childrenOf(schema).find((at) => schema[at].name === column) as number;
  const part = childrenOf(schema, top).find((at) => schema[at].name === inner);
  const root = { ...schema[0], num_children: 1 };
  return part === undefined ? [root, schema[top]] : [root, { ...schema[top], num_children: 1 }, schema[part]];
}
