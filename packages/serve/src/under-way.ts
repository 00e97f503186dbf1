/** Counts what has begun and not ended. */
export class UnderWay {
  #count = 0;
  readonly #waiting = new Set<() => void>();

  get count(): number {
    return this.#count;
  }

  /** @returns what is to be called at its end; more calls do nothing */
  begin(): () => void {
    this.#count++;
    let isOpen = true;
    return () => {
      if (!isOpen) return;
      isOpen = false;
      if (--this.#count > 0) return;
      for (const end of this.#waiting) end();
    };
  }

  /** Waits until nothing is under way, so many seconds at most. */
  idle(seconds: number): Promise<void> {
    if (this.#count === 0) return Promise.resolve();
    return new Promise((resolve) => {
      const end = () => {
        clearTimeout(timer);
        this.#waiting.delete(end);
        resolve();
      };
      const timer = setTimeout(end, seconds * 1000);
      this.#waiting.add(end);
    });
  }
}
