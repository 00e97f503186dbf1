/** Holds up calls of a method of a real part until it is opened, and counts those that are in it. */
export class Gate {
  #isOpen = false;
  #held: (() => void)[] = [];
  /** Calls that have begun. */
  calls = 0;
  #running = 0;
  /** The most that ran at once. */
  most = 0;

  /** The same object, whose calls of `method` wait at the gate. */
  on<T extends object>(target: T, method: keyof T): T {
    const enter = this.#enter.bind(this);
    return new Proxy(target, {
      get(whole, name) {
        const value = Reflect.get(whole, name, whole);
        if (typeof value !== 'function') return value;
        if (name !== method) return value.bind(whole);
        return (...given: unknown[]) => enter(() => value.apply(whole, given));
      },
    });
  }

  open(): void {
    this.#isOpen = true;
    for (const go of this.#held.splice(0)) go();
  }

  close(): void {
    this.#isOpen = false;
  }

  async #enter<R>(call: () => Promise<R>): Promise<R> {
    this.calls++;
    this.most = Math.max(this.most, ++this.#running);
    try {
      if (!this.#isOpen) await new Promise<void>((resolve) => this.#held.push(resolve));
      return await call();
    } finally {
      this.#running--;
    }
  }
}
