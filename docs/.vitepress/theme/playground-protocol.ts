/** What the page asks of the worker of the playground. */
export interface PlaygroundRequest {
  readonly code: string;
  /** Address of the folder of the model. */
  readonly model: string;
}

/** What the worker answers: lines and pictures as they come, and the end. */
export type PlaygroundReply =
  | { readonly kind: 'line'; readonly text: string }
  | { readonly kind: 'picture'; readonly data: Uint8ClampedArray<ArrayBuffer>; readonly side: number }
  | { readonly kind: 'end'; readonly error?: string };
