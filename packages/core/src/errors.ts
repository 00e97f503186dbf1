/** What went wrong, for programs. The message says it for people. */
export type ErrorCode =
  /** An option or argument is out of its range. */
  | 'invalid-argument'
  /** Tensor shapes do not fit together, or do not fit the declared ones. */
  | 'shape'
  /** A tensor or weight has the wrong data type. */
  | 'dtype'
  /** A file is not what it claims to be, or breaks a rule of its format. */
  | 'format'
  /** A configuration holds a value that no model can be built from. */
  | 'config'
  /** Weights are missing, superfluous or misshapen. */
  | 'weights'
  /** A file exceeds a limit that protects the reader. */
  | 'limit'
  /** Reading or writing failed (not found, permission, disk full). */
  | 'io'
  /** A server has no such repository, revision or file. */
  | 'not-found'
  /** A server wants a token, or another one. */
  | 'unauthorised'
  /** A model's owner must be asked for access first. */
  | 'gated'
  /** A server was not asked, since the network must not be used. */
  | 'offline'
  /** A server cannot be reached, broke off, stalled, or answered nonsense, also after retries. */
  | 'network'
  /** A server refuses more requests for now. */
  | 'rate-limited'
  /** Bytes that arrived are not those that were announced. */
  | 'corrupt'
  /** The device asked for is not there. */
  | 'device-unavailable'
  /** The device was there and is gone: make a new backend, and run again. */
  | 'device-lost'
  /** The runtime of a backend failed. */
  | 'runtime'
  /** A loss or gradient of a training run is no longer a finite number. */
  | 'diverged'
  /** The object was used after it was closed or disposed. */
  | 'closed'
  /** The operation exists, but not here. */
  | 'unsupported';

/** Where a fault was found, and what caused it. */
export interface ErrorDetails {
  /** The file the fault was found in. */
  file?: string;
  /** The entry inside that file: a tensor name, a zip member, a key of a config. */
  entry?: string;
  /** The error behind this one, such as that of the system. */
  cause?: unknown;
}

/** Messages quote what a file holds, and files may hold anything. */
const maxMessage = 2000;

const shorten = (message: string): string =>
  message.length > maxMessage ? `${message.slice(0, maxMessage)}...` : message;

const marker = Symbol.for('detailflow.error');

/** A paragraph for each code; a test compares the address with the site's. */
const helpPage = 'https://detailflow.github.io/detailflow-ts/guide/troubleshooting.html';

/**
 * The one error class of all packages. `code` tells programs what happened; the message says what was wrong,
 * where, which limit applies and what to do. Recognise it with {@link DetailFlowError.isInstance}, which also
 * holds across several installed copies of this package.
 * @see https://detailflow.github.io/detailflow-ts/guide/troubleshooting.html
 */
export class DetailFlowError extends Error {
  override readonly name = 'DetailFlowError';
  /** What happened, for programs. */
  readonly code: ErrorCode;
  /** The file the fault was found in. */
  readonly file?: string;
  /** The entry inside that file: a tensor name, a zip member, a key of a config. */
  readonly entry?: string;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    const place = [details.file, details.entry].filter((part) => part !== undefined).join(': ');
    super(shorten(place === '' ? message : `${place}: ${message}`), { cause: details.cause });
    this.code = code;
    this.file = details.file;
    this.entry = details.entry;
    Object.defineProperty(this, marker, { value: true });
  }

  /** Address of what the documentation says about this code: what it means and what to do. */
  get help(): string {
    return `${helpPage}#${this.code}`;
  }

  /** Whether a value is an error of these packages, also of another installed copy. */
  static isInstance(value: unknown): value is DetailFlowError {
    return typeof value === 'object' && value !== null && marker in value;
  }
}
