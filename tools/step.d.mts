export interface Step {
  /** What is done, such as "installing". */
  readonly title: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
  /** How far it is, from all that it has printed. */
  readonly state?: (output: string) => string | undefined;
  /** Milliseconds between two lines. */
  readonly pause?: number;
  readonly stream?: { readonly isTTY?: boolean; write(text: string): unknown };
}

export function runStep(step: Step): Promise<boolean>;
