import { exponentialNoise } from '@detailflow/core';
import { expect, test } from 'vitest';
import { PoolSlots } from './pool-slots';

interface Row {
  readonly name: number;
}

test('rows that go together lie side by side after the fewest moves, whatever comes and goes', () => {
  const random = exponentialNoise({ seed: 3, position: 0, count: 40_000 }).map((e) => Math.exp(-e));
  let drawn = 0;
  const whole = (most: number) => Math.floor(random[drawn++ % random.length] * (most + 1));
  const slots = new PoolSlots<Row>(9);
  const rows: Row[] = [];
  for (let round = 0; round < 2000; round++) {
    if (rows.length < 9 && whole(1) === 0) {
      const row = { name: round };
      slots.take(row);
      rows.push(row);
    }
    if (rows.length > 0 && whole(2) === 0) slots.release(rows.splice(whole(rows.length - 1), 1)[0]);
    const chosen = new Set(rows.filter(() => whole(1) === 0));
    if (chosen.size === 0) continue;
    const before = slots.rowsFrom(0, 10);
    const { first, moves } = slots.together(chosen);
    // No window of that size holds more of them already than are left in place.
    const inside = Math.max(
      ...Array.from(
        { length: 11 - chosen.size },
        (_, at) => before.slice(at, at + chosen.size).filter((row) => row && chosen.has(row)).length,
      ),
    );
    expect(moves.length).toBeLessThanOrEqual(2 * (chosen.size - inside));
    for (const move of moves) {
      expect(slots.rowsFrom(move.to, 1)).toEqual([undefined]); // nothing is overwritten
      expect(slots.rowsFrom(move.from, 1)[0]).toBeDefined();
      slots.moved(move);
    }
    expect(new Set(slots.rowsFrom(first, chosen.size))).toEqual(chosen);
    expect(new Set(slots.rowsFrom(0, 10).filter(Boolean))).toEqual(new Set(rows));
    expect(slots.free).toBe(9 - rows.length);
    expect(slots.together(chosen)).toEqual({ first, moves: [] });
  }
});
