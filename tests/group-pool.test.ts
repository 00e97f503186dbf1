import { createNodeBackend } from '@detailflow/backend-node';
import { parseGroupConfig } from '@detailflow/blocks';
import type { Backend, PoolMember, TokenPool } from '@detailflow/core';
import { createReferenceBackend } from '@detailflow/core/reference';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { randomGroupModel } from './random-group-model';

const config = parseGroupConfig({
  ...{ tokens: 8, groupSize: 2, causalTokens: 4, vocabularySize: 10, classes: 3 },
  ...{ dim: 16, layers: 2, heads: 4, kvHeads: 2, hiddenDim: 24, ropeBase: 10000, normEpsilon: 1e-5 },
});

const modelOn = randomGroupModel(config);

/** A sequence of its own for every number. */
const token = (sequence: number, place: number) => (7 * sequence + 3 * place) % 10;

/** Logits of every step of a sequence that is alone, from the session that draws whole batches. */
async function alone(backend: Backend, label: number, sequence: number): Promise<Float32Array[]> {
  const session = await modelOn(backend).begin([label]);
  const steps: Float32Array[] = [];
  let chosen: Int32Array | undefined;
  for (let at = 0; at < config.tokens; ) {
    steps.push((await session.predict(chosen)).data);
    chosen = Int32Array.from({ length: session.nextCount }, (_, k) => token(sequence, at + k));
    at += chosen.length;
  }
  await session.dispose();
  return steps;
}

async function openPool(backend: Backend, rows: number): Promise<TokenPool> {
  const pool = await modelOn(backend).openPool?.({ rows });
  if (!pool) throw new Error('there is no pool');
  return pool;
}

interface Drawn {
  readonly member: PoolMember;
  readonly labels: readonly number[];
  readonly sequence: number;
  readonly logits: Float32Array[][];
  chosen?: Int32Array;
}

/** One step of members that predict the same number of tokens. */
async function stepOf(pool: TokenPool, drawn: readonly Drawn[]): Promise<void> {
  const found = await pool.predict(drawn.map(({ member, chosen }) => ({ member, chosen })));
  for (const [i, one] of drawn.entries()) {
    one.logits.push(found[i].map((row) => row.slice()));
    const { position, nextCount } = one.member;
    const next = Array.from({ length: nextCount }, (_, k) => token(one.sequence, position + k));
    one.chosen = Int32Array.from(one.labels.flatMap(() => next));
  }
}

describe.each(['reference', 'cpu'])('a pool on the backend "%s"', (name) => {
  let backend: Backend;
  beforeAll(async () => {
    backend = name === 'cpu' ? await createNodeBackend({ threads: 1 }) : createReferenceBackend();
  });
  afterAll(() => backend.close());

  test('gives every row the logits that it has alone, whatever comes and goes', async () => {
    const pool = await openPool(backend, 5);
    let next = 0;
    const begin = (...labels: number[]): Drawn => ({
      ...{ member: pool.begin(labels), labels, sequence: next++, logits: [] },
    });
    const done: Drawn[] = [];
    let running = [begin(1, 3)];
    const arrivals: Readonly<Record<number, number[][]>> = { 1: [[2]], 3: [[0, 3]], 7: [[1]], 8: [[0], [2]] };
    for (let round = 0; running.length > 0 || round < 9; round++) {
      for (const labels of arrivals[round] ?? []) running.push(begin(...labels));
      if (round === 5) running.splice(1, 1)[0].member.release(); // gives up within a group
      // Places 0 to 3 are predicted one by one, the others in pairs; the position is that of the last prediction.
      const isSingle = ({ member, chosen }: Drawn) =>
        member.position + (chosen ? member.nextCount : 0) < config.causalTokens;
      const singles = running.filter(isSingle);
      const groups = running.filter((one) => !isSingle(one)).reverse();
      for (const some of [singles, groups]) if (some.length > 0) await stepOf(pool, some);
      for (const one of running) {
        if (one.member.position + one.member.nextCount < config.tokens) continue;
        one.member.release();
        done.push(one);
      }
      running = running.filter((one) => !done.includes(one));
    }
    expect(done.map(({ labels }) => labels)).toEqual([[1, 3], [0, 3], [1], [0], [2]]);
    for (const { labels, sequence, logits } of done) {
      for (const [row, label] of labels.entries()) {
        const expected = await alone(backend, label, sequence);
        expect(logits).toHaveLength(expected.length);
        for (const [step, rows] of logits.entries()) {
          for (const [i, value] of rows[row].entries()) expect(value).toBeCloseTo(expected[step][i], 5);
        }
      }
    }
    await pool.dispose();
  });

  test('refuses what does not fit', async () => {
    const pool = await openPool(backend, 2);
    const both = pool.begin([0, 3]);
    expect(() => pool.begin([1])).toThrow(expect.objectContaining({ code: 'limit' }));
    both.release();
    both.release();
    await expect(pool.predict([{ member: both }])).rejects.toMatchObject({ code: 'closed' });
    const [a, b] = [pool.begin([0]), pool.begin([1])];
    expect(() => pool.begin([])).toThrow(expect.objectContaining({ code: 'invalid-argument' }));
    const refused = (steps: Parameters<TokenPool['predict']>[0], text: string) =>
      expect(pool.predict(steps)).rejects.toMatchObject({
        code: 'invalid-argument',
        message: expect.stringContaining(text),
      });
    await refused([], '0 members');
    await refused([{ member: a }, { member: a }], '2 members');
    await refused([{ member: a, chosen: Int32Array.of(1) }], '1 tokens were chosen, 0 were predicted');
    await pool.predict([{ member: a }]);
    await refused([{ member: a }], '0 tokens were chosen, 1 were predicted');
    await refused([{ member: a, chosen: Int32Array.of(10) }], 'the token 10');
    for (let i = 0; i < 3; i++) await pool.predict([{ member: a, chosen: Int32Array.of(i) }]);
    await refused([{ member: a, chosen: Int32Array.of(3) }, { member: b }], '2 and 1 tokens');
    await pool.predict([{ member: a, chosen: Int32Array.of(3) }]);
    await pool.predict([{ member: a, chosen: Int32Array.of(4, 5) }]);
    await refused([{ member: a, chosen: Int32Array.of(6, 7) }], 'complete');
    await pool.dispose();
  });

  test('takes a step that was aborted or failed again', async () => {
    const pool = await openPool(backend, 2);
    const member = pool.begin([1]);
    const signal = AbortSignal.abort(new Error('enough'));
    await expect(pool.predict([{ member }], { signal })).rejects.toThrow('enough');
    const [[logits]] = await pool.predict([{ member }]);
    expect(Array.from(logits)).toEqual(Array.from((await alone(backend, 1, 0))[0]));
    await pool.dispose();
  });
});
