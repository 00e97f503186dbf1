import {
  type CallOptions,
  type Condition,
  DetailFlowError,
  type PoolMember,
  type PoolStep,
  type TokenModel,
  type TokenPool,
  type TokenSession,
} from '@detailflow/core';

/** Rows with a session of their own: for models whose batches cannot be joined later. Members of a step run in turn. */
export class SessionPool implements TokenPool {
  readonly rows: number;
  readonly #model: TokenModel;
  readonly #members = new Map<PoolMember, SessionMember>();
  readonly #closing = new Set<Promise<void>>();

  constructor(model: TokenModel, rows: number) {
    this.#model = model;
    this.rows = rows;
  }

  begin(conditions: readonly Condition[]): PoolMember {
    const taken = [...this.#members.values()].reduce((sum, one) => sum + one.conditions.length, 0);
    if (taken + conditions.length > this.rows) {
      throw new DetailFlowError(
        'limit',
        `${conditions.length} rows do not fit: of ${this.rows} rows ${this.rows - taken} are free`,
      );
    }
    const member = new SessionMember(this.#model, conditions, (closed) => {
      this.#members.delete(member);
      this.#closing.add(closed);
      closed.then(() => this.#closing.delete(closed));
    });
    this.#members.set(member, member);
    return member;
  }

  async predict(
    steps: readonly PoolStep[],
    options: CallOptions = {},
  ): Promise<readonly (readonly Float32Array[])[]> {
    const found: Float32Array[][] = [];
    for (const { member, chosen } of steps) {
      const own = this.#members.get(member);
      if (!own) throw new DetailFlowError('closed', 'the member was released, or belongs to another pool');
      found.push(await own.predict(chosen, options));
    }
    return found;
  }

  async dispose(): Promise<void> {
    for (const member of [...this.#members.values()]) member.release();
    await Promise.all(this.#closing);
  }
}

class SessionMember implements PoolMember {
  readonly conditions: readonly Condition[];
  readonly #model: TokenModel;
  readonly #onRelease: (closed: Promise<void>) => void;
  #session: TokenSession | undefined;
  #isReleased = false;

  constructor(
    model: TokenModel,
    conditions: readonly Condition[],
    onRelease: (closed: Promise<void>) => void,
  ) {
    this.#model = model;
    this.conditions = conditions;
    this.#onRelease = onRelease;
  }

  get position(): number {
    return this.#session?.position ?? 0;
  }

  get nextCount(): number {
    return this.#session?.nextCount ?? this.#model.schedule[0];
  }

  async predict(chosen: Int32Array | undefined, options: CallOptions): Promise<Float32Array[]> {
    this.#session ??= await this.#model.begin(this.conditions, options);
    const { data } = await this.#session.predict(chosen, options);
    const rows = this.conditions.length;
    const size = data.length / rows;
    return Array.from({ length: rows }, (_, i) => data.subarray(i * size, (i + 1) * size));
  }

  release(): void {
    if (this.#isReleased) return;
    this.#isReleased = true;
    // A device that is gone has nothing left to free.
    this.#onRelease(this.#session?.dispose().catch(() => {}) ?? Promise.resolve());
  }
}
