export interface Page {
  /** From the root. */
  readonly source: string;
  /** On the site, without a leading slash. */
  readonly address: string;
  readonly title: string;
  readonly group: string;
}

export interface SidebarGroup {
  readonly text: string;
  readonly items: readonly { readonly text: string; readonly link: string }[];
}

export function pages(): Page[];
export function sidebar(): SidebarGroup[];
