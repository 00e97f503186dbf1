export interface Link {
  readonly isImage: boolean;
  readonly text: string;
  /** As it is written. */
  readonly target: string;
  /** From the root, unless it leads elsewhere. */
  readonly file?: string;
  readonly anchor?: string;
}

export function linksOf(source: string, markdown: string): Link[];
export function slug(heading: string): string;
export function anchorsOf(markdown: string): Set<string>;
export function deadLinks(source: string): string[];
