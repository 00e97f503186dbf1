export interface Export {
  readonly specifier: string;
  readonly name: string;
  readonly isDocumented: boolean;
  /** Where it is declared, from the root. */
  readonly file: string;
}

export function exportedNames(): Export[];
export function apiReports(): Map<string, string>;
