export interface Export {
  readonly specifier: string;
  readonly name: string;
  readonly isDocumented: boolean;
  /** Where it is declared, from the root. */
  readonly file: string;
}

/** The built declarations of all packages. */
export type Surface = { readonly program: unknown };
export function readSurface(): Surface;
export function exportedNames(surface?: Surface): Export[];
/** Parameters and links that descriptions name and that are not there, one line a fault. */
export function wrongDescriptions(surface?: Surface): string[];
export function apiReports(surface?: Surface): Map<string, string>;
