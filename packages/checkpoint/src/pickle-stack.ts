/** Stands between values on the stack, where a pickle begins to count. */
const mark = Symbol('mark');

/** The values a pickle has made and not used yet. */
export class PickleStack<V> {
  private readonly values: (V | typeof mark)[] = [];

  constructor(private readonly fail: (reason: string) => Error) {}

  get length(): number {
    return this.values.length;
  }

  push(value: V): void {
    this.values.push(value);
  }

  pushMark(): void {
    this.values.push(mark);
  }

  top(): V {
    const value = this.values[this.values.length - 1];
    if (value === undefined || value === mark) throw this.fail('it takes a value from an empty stack');
    return value;
  }

  pop(): V {
    const value = this.top();
    this.values.pop();
    return value;
  }

  /** Takes away a value or a mark. */
  drop(): void {
    if (this.values.pop() === undefined) throw this.fail('it takes a value from an empty stack');
  }

  /** Takes the values down to the last mark, and the mark. */
  toMark(): V[] {
    const at = this.values.lastIndexOf(mark);
    if (at < 0) throw this.fail('it takes values up to a mark that is not there');
    const items = this.values.splice(at);
    items.shift();
    return items as V[];
  }
}
