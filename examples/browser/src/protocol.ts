/** What the page asks of the worker that holds the model. */
export type Job =
  | {
      readonly kind: 'generate';
      readonly labels: readonly number[];
      readonly seed: number;
      readonly cfg: number;
    }
  /** pixels float32 [3, S, S] in [-1, 1] */
  | { readonly kind: 'reconstruct'; readonly pixels: Float32Array }
  | {
      readonly kind: 'vary';
      readonly pixels: Float32Array;
      readonly keepTokens: number;
      readonly count: number;
      readonly seed: number;
    };

export type Request =
  | { readonly kind: 'load'; readonly model: string }
  | { readonly kind: 'run'; readonly id: number; readonly job: Job }
  | { readonly kind: 'cancel'; readonly id: number };

/** What the page has to know of the model. */
export interface ModelFacts {
  readonly name: string;
  readonly description: string;
  readonly attribution: string;
  readonly classNames: readonly string[];
  readonly cfg: number;
  readonly imageSize: number;
  readonly tokens: number;
  /** What its pictures show. */
  readonly subject: string;
  /** What its pictures are laid on: a colour of CSS. */
  readonly background: string;
  /** What computes, and what a visitor should know about that. */
  readonly device: string;
  readonly note: string;
}

/** Pictures after some tokens: RGBA, each `side` x `side`. */
export interface Preview {
  readonly count: number;
  readonly total: number;
  readonly side: number;
  readonly pictures: readonly Uint8ClampedArray<ArrayBuffer>[];
  /** Milliseconds since the job began. */
  readonly elapsed: number;
  /** PSNR in dB of a restored picture. */
  readonly psnr?: number;
}

export type Reply =
  /** share: of the model's bytes that have come, 0 to 1; not given where that is not known. */
  | { readonly kind: 'progress'; readonly text: string; readonly share?: number }
  | { readonly kind: 'ready'; readonly facts: ModelFacts }
  | { readonly kind: 'unavailable'; readonly message: string }
  | { readonly kind: 'preview'; readonly id: number; readonly preview: Preview }
  | { readonly kind: 'done'; readonly id: number; readonly elapsed: number }
  | { readonly kind: 'failed'; readonly id: number; readonly message: string; readonly isCancelled: boolean };
