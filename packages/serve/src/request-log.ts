/** A line of the log: what happened to one request, or to the server. Neither keys nor prompts nor pictures are part of it. */
export interface LogEntry {
  readonly time: string;
  readonly level: 'info' | 'warn' | 'error';
  readonly event: string;
  /** Of the request. */
  readonly id?: string;
  readonly [field: string]: unknown;
}

export type Log = (
  level: LogEntry['level'],
  event: string,
  fields?: Readonly<Record<string, unknown>>,
) => void;

/** A log that hands its lines to `sink`; whatever the sink throws is its own affair. */
export function createLog(sink: ((entry: LogEntry) => void) | undefined): Log {
  return (level, event, fields = {}) => {
    try {
      sink?.({ time: new Date().toISOString(), level, event, ...fields });
    } catch {
      // a full disk below the log must not end a request
    }
  };
}
