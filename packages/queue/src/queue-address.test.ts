import { expect, test } from 'vitest';
import { parseQueueAddress } from './queue-address';
import { queueError } from './queue-error';

test.each([
  ['redis://host', { name: 'redis://host:6379', host: 'host', port: 6379, db: 0, isEncrypted: false }],
  ['REDISS://host:1/3', { name: 'rediss://host:1/3', port: 1, db: 3, isEncrypted: true }],
  ['redis://me:p%40ss%2F%25@host/', { name: 'redis://host:6379', username: 'me', password: 'p@ss/%' }],
  ['redis://:p@host', { username: undefined, password: 'p' }],
  ['redis://[::1]:7000/0', { name: 'redis://[::1]:7000', host: '::1', port: 7000 }],
])('%s', (text, expected) => {
  expect(parseQueueAddress(text)).toMatchObject(expected);
});

test('a password of its own goes before one from elsewhere', () => {
  expect(parseQueueAddress('redis://:own@host', 'other').password).toBe('own');
  expect(parseQueueAddress('redis://host', 'other').password).toBe('other');
});

test.each([
  '',
  'secret',
  'host:6379',
  'http://:secret@host',
  'redis:secret',
  'redis://',
  'redis://:secret@',
  'redis://:secret@host:0',
  'redis://:secret@host:65536',
  'redis://:secret@host:x',
  'redis://:secret@host/x',
  'redis://:secret@host/-1',
  'redis://:secret@host/99999',
  'redis://:secret@host/0/1',
  'redis://:secret@host?db=1',
  'redis://:secret@host#x',
  'redis://:%secret@host',
  7 as never,
  null as never,
])('%j is refused without being quoted', (text) => {
  const parse = () => parseQueueAddress(text);
  expect(parse).toThrow(/^the address of the queue .*redis:\/\/host/);
  expect(parse).not.toThrow(/secret/);
});

test.each([
  ['NOAUTH Authentication required.', 'unauthorised'],
  ['WRONGPASS invalid username-password pair', 'unauthorised'],
  ["NOPERM this user has no permissions to run the 'set' command", 'unauthorised'],
  ["OOM command not allowed when used memory > 'maxmemory'.", 'limit'],
  ['MISCONF Redis is configured to save RDB snapshots', 'io'],
  ["READONLY You can't write against a read only replica.", 'io'],
  ['connect ECONNREFUSED 127.0.0.1:6379', 'network'],
  ['ERR DB index is out of range', 'invalid-argument'],
  ['anything else', 'network'],
])('%s has a code, and shows no password', (message, code) => {
  const address = parseQueueAddress('redis://me:p%40ss@host');
  const thrown = Object.assign(new Error(`${message} p@ss p%40ss`), {
    command: { name: 'auth', args: ['p@ss'] },
  });
  const error = queueError(address, thrown);
  expect(error).toMatchObject({ code, file: 'redis://host:6379' });
  const all = JSON.stringify([
    error.message,
    String(error.cause),
    error.stack,
    Object.values(error.cause as object),
  ]);
  expect(all).not.toMatch(/p(@|%40)ss/);
});
