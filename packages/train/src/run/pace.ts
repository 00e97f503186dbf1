/** Rate and time left by the last steps, but those that compiled a graph. */
export class Pace {
  readonly #seconds: number[] = [];
  #begun = 0;
  #graphs: number | undefined;

  constructor(private readonly batch: number) {}

  /** @param graphs compiled before the step */
  begin(graphs: number): void {
    this.#graphs = graphs;
    this.#begun = performance.now();
  }

  /** @param graphs compiled after the step */
  end(graphs: number): void {
    if (graphs !== this.#graphs) return;
    this.#seconds.push((performance.now() - this.#begun) / 1000);
    if (this.#seconds.length > 50) this.#seconds.shift();
  }

  /** Undefined before a step was only a step. */
  left(steps: number): { samplesPerSecond?: number; secondsLeft?: number } {
    if (this.#seconds.length === 0) return {};
    const seconds = this.#seconds.reduce((a, b) => a + b, 0) / this.#seconds.length;
    return { samplesPerSecond: this.batch / seconds, secondsLeft: steps * seconds };
  }
}
