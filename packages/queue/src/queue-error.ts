import { DetailFlowError, type ErrorCode } from '@detailflow/core';
import type { QueueAddress } from './queue-address';

const kinds: readonly (readonly [pattern: RegExp, code: ErrorCode, problem: string])[] = [
  [
    /^(NOAUTH|WRONGPASS)|invalid password|without any password/i,
    'unauthorised',
    'wants another user or password',
  ],
  [
    /^NOPERM/,
    'unauthorised',
    'does not allow this user what a queue needs (all commands on the keys detailflow:*)',
  ],
  [
    /^OOM/,
    'limit',
    'has no memory left; raise maxmemory, or keep results in a folder that all machines share',
  ],
  [/^MISCONF|^READONLY/, 'io', 'takes no writes: its disk may be full, or it is a replica'],
  [/^LOADING/, 'network', 'is still loading its data; try again'],
  [/database|DB index/i, 'invalid-argument', 'has no database of this number'],
  [/Protocol error|Unknown RESP type/i, 'network', 'answers, but not as Redis does'],
  [/ECONNREFUSED/, 'network', 'cannot be reached: nothing listens there'],
  [/ENOTFOUND|EAI_AGAIN/, 'network', 'cannot be reached: no such host'],
  [/ETIMEDOUT|timed out/i, 'network', 'cannot be reached: no answer in time'],
  [/certificate|SSL|TLS|wrong version number/i, 'network', 'makes no encrypted connection'],
];

/**
 * What went wrong with a queue, as a typed error. Nothing of the client's error is kept but its message, since its command may
 * be the one that holds the password.
 */
export function queueError(address: QueueAddress, thrown: unknown): DetailFlowError {
  if (DetailFlowError.isInstance(thrown)) return thrown;
  const said = withoutSecrets(address, messageOf(thrown));
  const [, code, problem] = kinds.find(([pattern]) => pattern.test(said)) ?? [
    undefined,
    'network' as const,
    'cannot be used',
  ];
  return new DetailFlowError(code, `${problem} (${said})`, { file: address.name, cause: new Error(said) });
}

/** Text without the password of an address, whatever put it there. */
export function withoutSecrets({ password }: QueueAddress, text: string): string {
  if (password === undefined) return text;
  return text.replaceAll(password, '***').replaceAll(encodeURIComponent(password), '***');
}

function messageOf(thrown: unknown): string {
  if (!(thrown instanceof Error)) return String(thrown);
  const { code } = thrown as NodeJS.ErrnoException;
  const inner = thrown instanceof AggregateError ? thrown.errors.map(messageOf).join(', ') : '';
  const text = thrown.message || inner || code || thrown.name;
  return (code !== undefined && !text.includes(code) ? `${code} ${text}` : text).slice(0, 500);
}
