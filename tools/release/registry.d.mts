export interface Registry {
  readonly address: string;
  /** Settings of npm that lead it there. */
  readonly environment: Readonly<Record<string, string>>;
  close(): Promise<void>;
}
export function startRegistry(folder: string, options: { readonly from: string }): Promise<Registry>;
