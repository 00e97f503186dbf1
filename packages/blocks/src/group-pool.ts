import {
  type CallOptions,
  type Condition,
  checkOptions,
  DetailFlowError,
  describe,
  type Executable,
  type PoolMember,
  type PoolStep,
  type State,
  Tensor,
  type TokenPool,
  type TokenPoolOptions,
} from '@detailflow/core';
import { checkChosenTokens } from './chosen-tokens';
import { classLabels } from './class-labels';
import type { GroupTransformerConfig } from './group-config';
import { growingCache } from './growing-cache';
import { PlaceKind } from './places';
import { PoolSlots } from './pool-slots';
import { stepPlaces } from './step-places';

export { pooledStepGraph } from './pooled-graph';

const MOST_ROWS = 1024;

/** Opens a pool on a `pooledStepGraph`. @throws DetailFlowError `invalid-argument` */
export async function openGroupPool(
  config: GroupTransformerConfig,
  compile: () => Promise<Executable>,
  options: TokenPoolOptions,
): Promise<TokenPool> {
  checkOptions('openPool', options, { rows: true, signal: true });
  const { rows, signal } = options;
  if (!Number.isInteger(rows) || rows < 1 || rows > MOST_ROWS) {
    throw new DetailFlowError('invalid-argument', `rows is ${describe(rows)}; give 1 to ${MOST_ROWS}`);
  }
  signal?.throwIfAborted();
  const executable = await compile();
  const state = await executable.createState({ batch: rows + 1, cache: config.tokens });
  return new GroupPool(config, executable, state, rows);
}

/** A row of the batch: one sequence. */
interface Row {
  readonly member: Member;
  readonly label: number;
  /** Which of its member's rows it is. */
  readonly index: number;
}

/** Rows that go on together. */
class Member implements PoolMember {
  readonly rows: readonly Row[];
  readonly #config: GroupTransformerConfig;
  readonly #release: (member: Member) => void;
  position = 0;
  /** Whether logits for the next tokens have been handed out. */
  predicted = false;

  constructor(config: GroupTransformerConfig, labels: readonly number[], release: (member: Member) => void) {
    this.#config = config;
    this.#release = release;
    this.rows = labels.map((label, index) => ({ member: this, label, index }));
  }

  get nextCount(): number {
    return countAt(this.#config, this.position);
  }

  /** Tokens of the step after the next. */
  get stepAfter(): number {
    return countAt(this.#config, this.position + this.nextCount);
  }

  release(): void {
    this.#release(this);
  }
}

/** The places that a member has reached with its next step. */
const endOf = ({ position, predicted, nextCount, stepAfter }: Member): number =>
  position + nextCount + (predicted ? stepAfter : 0);

/** Tokens of the step at a position; 0 at the end. */
function countAt({ tokens, causalTokens, groupSize }: GroupTransformerConfig, position: number): number {
  if (position >= tokens) return 0;
  return position < causalTokens ? 1 : groupSize;
}

/**
 * Rows with a cache each, in slots of one state. The rows of a step are brought side by side, so that the run works on them in
 * place: nothing is gathered, and rows of the other kind of step (single tokens beside groups) are not computed along.
 */
class GroupPool implements TokenPool {
  readonly rows: number;
  readonly #config: GroupTransformerConfig;
  readonly #executable: Executable;
  readonly #state: State;
  readonly #reach: ReturnType<typeof growingCache>;
  readonly #slots: PoolSlots<Row>;
  readonly #members = new Set<PoolMember>();
  /** Steps run one after the other, since they move rows. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(config: GroupTransformerConfig, executable: Executable, state: State, rows: number) {
    this.#config = config;
    this.#executable = executable;
    this.#state = state;
    this.#reach = growingCache(state, config.tokens);
    this.rows = rows;
    this.#slots = new PoolSlots(rows);
  }

  begin(conditions: readonly Condition[]): PoolMember {
    const labels = classLabels(conditions, this.#config.classes);
    if (labels.length > this.#slots.free) {
      throw new DetailFlowError(
        'limit',
        `${labels.length} rows do not fit: of ${this.rows} rows ${this.#slots.free} are free`,
      );
    }
    const member = new Member(this.#config, labels, (one) => {
      if (!this.#members.delete(one)) return;
      for (const row of one.rows) this.#slots.release(row);
    });
    for (const row of member.rows) this.#slots.take(row);
    this.#members.add(member);
    return member;
  }

  async predict(
    steps: readonly PoolStep[],
    options: CallOptions = {},
  ): Promise<readonly (readonly Float32Array[])[]> {
    checkOptions('predict', options, { signal: true });
    const members = steps.map(({ member }) => this.#own(member));
    const counts = steps.map(({ chosen }, i) => this.#nextCount(members[i], chosen));
    const [count] = counts;
    if (
      counts.length === 0 ||
      new Set(members).size < members.length ||
      counts.some((one) => one !== count)
    ) {
      throw new DetailFlowError(
        'invalid-argument',
        `${counts.length} members that are to predict ${[...new Set(counts)].join(' and ')} tokens; give different ones with the same number`,
      );
    }
    const turn = this.#last.then(() => this.#run(members, steps, count, options.signal));
    this.#last = turn.catch(() => {});
    return turn;
  }

  async dispose(): Promise<void> {
    await this.#last;
    await this.#state.dispose();
  }

  #own(member: PoolMember): Member {
    if (this.#members.has(member)) return member as Member;
    throw new DetailFlowError('closed', 'the member was released, or belongs to another pool');
  }

  /** Checks the tokens chosen for the last prediction; what comes after them. */
  #nextCount(member: Member, chosen: Int32Array | undefined): number {
    const { rows, predicted, position, nextCount } = member;
    const expected = predicted ? rows.length * nextCount : 0;
    checkChosenTokens(chosen, { expected, vocabularySize: this.#config.vocabularySize });
    const count = countAt(this.#config, position + (predicted ? nextCount : 0));
    if (count === 0) throw new DetailFlowError('invalid-argument', 'the sequences are complete');
    return count;
  }

  async #run(
    members: readonly Member[],
    steps: readonly PoolStep[],
    count: number,
    signal: AbortSignal | undefined,
  ): Promise<Float32Array[][]> {
    signal?.throwIfAborted();
    const wanted = new Set(members.flatMap(({ rows }) => rows));
    const { first, moves } = this.#slots.together(wanted);
    for (const move of moves) {
      await this.#state.copyEntry?.(move.from, move.to);
      this.#slots.moved(move);
    }
    const order = this.#slots.rowsFrom(first, wanted.size) as Row[];
    const chosen = new Map(steps.map((step, i) => [members[i], step.chosen]));
    const reached = [...this.#members].map((member) => endOf(member as Member));
    const cache = await this.#reach(Math.max(...reached), this.#slots.used);
    const { logits } = await this.#executable.run(
      { ...this.#feeds(order, chosen, count), cache },
      { state: this.#state.window?.(first, wanted.size), signal },
    );
    for (const member of members) {
      if (member.predicted) member.position += member.nextCount;
      member.predicted = true;
    }
    const size = count * this.#config.vocabularySize;
    const data = logits.data as Float32Array;
    const at = new Map(order.map((row, i) => [row, data.subarray(i * size, (i + 1) * size)]));
    return members.map(({ rows }) => rows.map((row) => at.get(row) as Float32Array));
  }

  /** What the places of each row are fed with. */
  #feeds(
    order: readonly Row[],
    chosen: ReadonlyMap<Member, Int32Array | undefined>,
    count: number,
  ): Record<string, Tensor> {
    const [ids, kinds, positions] = [0, 1, 2].map(() => new Int32Array(order.length * count));
    for (const [i, { member, label, index }] of order.entries()) {
      const position = member.position + (member.predicted ? member.nextCount : 0);
      const places = stepPlaces(this.#config, position);
      const tokens = chosen.get(member);
      const last = (tokens?.length ?? 0) / member.rows.length; // tokens of the previous step
      kinds.set(places.kinds, i * count);
      positions.set(places.positions, i * count);
      for (let place = 0; place < count; place++) {
        const kind = places.kinds[place];
        if (kind === PlaceKind.class) ids[i * count + place] = label;
        else if (kind === PlaceKind.special) ids[i * count + place] = places.ids[place];
        else ids[i * count + place] = (tokens as Int32Array)[index * last + place];
      }
    }
    const dims = [order.length, count];
    return {
      ids: new Tensor('int32', ids, dims),
      kinds: new Tensor('int32', kinds, dims),
      positions: new Tensor('int32', positions, dims),
    };
  }
}
