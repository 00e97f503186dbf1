import type { OptionNames } from '@detailflow/core';
import type { LogEntry } from './request-log';
import type { ServedModel } from './served-model';

/** What is served, to whom, and the limits. */
export interface ImageAppOptions {
  readonly model: ServedModel;
  /** Name that the model is served by; default: that of its card, or of its family. */
  readonly name?: string;
  /** Pictures that are drawn at once, 1 to 256; default 8. */
  readonly pictures?: number;
  /** Pictures that may wait beside them; default 64. */
  readonly queue?: number;
  /** Most pictures of one request, 1 to 10; default 10. */
  readonly most?: number;
  /** Seconds that a request may take, waiting included; default 300. */
  readonly timeout?: number;
  /** Bytes of an uploaded form; default 16 MiB. JSON may have 256 KiB. */
  readonly bodyLimit?: number;
  /** Keys of which one must be sent as bearer token; default: none is asked for. */
  readonly keys?: readonly string[];
  /**
   * Origins of other sites whose pages may ask, such as `https://example.org`: they are let through, and may read the answers.
   * Default: none, so that no page but the server's own can have pictures drawn here.
   */
  readonly origins?: readonly string[];
  /** Takes the lines of the log; default: none. */
  readonly log?: (entry: LogEntry) => void;
}

export const imageAppOptionNames: OptionNames<ImageAppOptions> = {
  ...{ model: true, name: true, pictures: true, queue: true, most: true, timeout: true },
  ...{ bodyLimit: true, keys: true, origins: true, log: true },
};
