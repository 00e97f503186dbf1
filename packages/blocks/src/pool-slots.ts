/** A move of what slot `from` holds to the free slot `to`. */
export interface SlotMove {
  readonly from: number;
  readonly to: number;
}

/**
 * Which row lies where. One slot more than rows is needed, so that two rows can always change places.
 */
export class PoolSlots<Row extends object> {
  readonly #slots: (Row | undefined)[];

  constructor(rows: number) {
    this.#slots = new Array<Row | undefined>(rows + 1).fill(undefined);
  }

  /** Slots without a row that can be taken; the spare one stays. */
  get free(): number {
    return this.#slots.filter((row) => row === undefined).length - 1;
  }

  /** Puts a row into the first free slot. */
  take(row: Row): void {
    this.#slots[this.#slots.indexOf(undefined)] = row;
  }

  release(row: Row): void {
    this.#slots[this.#slots.indexOf(row)] = undefined;
  }

  /** From the first slot with a row to the last. */
  get used(): { readonly first: number; readonly count: number } {
    const taken = [...this.#slots.keys()].filter((at) => this.#slots[at] !== undefined);
    const first = taken[0] ?? 0;
    return { first, count: (taken.at(-1) ?? 0) - first + 1 };
  }

  /** What lies in `count` slots from `first` on. */
  rowsFrom(first: number, count: number): readonly (Row | undefined)[] {
    return this.#slots.slice(first, first + count);
  }

  /**
   * The slots where so many rows are to lie side by side, and the fewest moves that bring them there, in order. Rows that
   * are in each other's company step after step are moved once.
   */
  together(rows: ReadonlySet<Row>): { readonly first: number; readonly moves: readonly SlotMove[] } {
    const slots = [...this.#slots];
    const isMember = (row: Row | undefined) => row !== undefined && rows.has(row);
    const first = this.#bestWindow(rows.size, isMember);
    const end = first + rows.size;
    const moves: SlotMove[] = [];
    const move = (from: number, to: number) => {
      moves.push({ from, to });
      [slots[to], slots[from]] = [slots[from], undefined];
    };
    const wrong = Array.from({ length: rows.size }, (_, i) => first + i).filter((at) => !isMember(slots[at]));
    wrong.sort((a, b) => Number(slots[a] !== undefined) - Number(slots[b] !== undefined)); // free ones first
    for (const at of wrong) {
      if (slots[at] !== undefined) {
        move(
          at,
          slots.findIndex((row, i) => row === undefined && (i < first || i >= end)),
        );
      }
      move(
        slots.findIndex((row, i) => isMember(row) && (i < first || i >= end)),
        at,
      );
    }
    return { first, moves };
  }

  /** Notes that a move was made. */
  moved({ from, to }: SlotMove): void {
    [this.#slots[to], this.#slots[from]] = [this.#slots[from], undefined];
  }

  /** Where the most of them lie already. */
  #bestWindow(size: number, isMember: (row: Row | undefined) => boolean): number {
    let best = 0;
    let most = -1;
    for (let first = 0; first + size <= this.#slots.length; first++) {
      const inside = this.#slots.slice(first, first + size).filter(isMember).length;
      if (inside > most) [best, most] = [first, inside];
    }
    return best;
  }
}
