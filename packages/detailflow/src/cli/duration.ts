import { UsageError } from './command';

const units = { h: 3_600_000, m: 60_000, s: 1000 };

/** Milliseconds of a time such as 90s, 20m or 1h30m. */
export function durationOf(text: string): number {
  const parts = /^(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?$/.exec(text);
  const [, h = '0', m = '0', s = '0'] = parts ?? [];
  const duration = Number(h) * units.h + Number(m) * units.m + Number(s) * units.s;
  if (parts && duration > 0) return duration;
  throw new UsageError(`--stop-after "${text}": give a time such as 90s, 20m, 2h or 1h30m`);
}
