export interface Entry {
  /** What an import says, such as "@detailflow/core/conformance". */
  readonly specifier: string;
  /** The file behind it, from the root. */
  readonly source: string;
  /** Its declarations once the package is built, from the root. */
  readonly types: string;
}

export interface PackageFolder {
  /** Name of its folder. */
  readonly short: string;
  /** From the root. */
  readonly folder: string;
  readonly name: string;
  readonly manifest: Readonly<Record<string, unknown>>;
  readonly entries: readonly Entry[];
}

export const root: string;
export function packages(): PackageFolder[];
