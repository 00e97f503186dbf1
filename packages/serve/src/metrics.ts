import { Counter, Gauge, Histogram, Registry } from 'prom-client';

/** How a picture that was accepted or refused ended. */
export type Outcome = 'drawn' | 'cancelled' | 'failed' | 'refused';

export interface Occupancy {
  readonly running: number;
  readonly waiting: number;
  readonly isReady: boolean;
}

const SECONDS = [0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120];

/** What the server counts, for Prometheus; each server has its own. */
export class Metrics {
  readonly #registry = new Registry();
  readonly #requests: Counter<'route' | 'status'>;
  readonly #pictures: Counter<'outcome'>;
  readonly #runs: Histogram;
  readonly #firstPartial: Histogram;
  readonly #picture: Histogram;
  readonly #waited: Histogram;

  constructor(occupancy: () => Occupancy) {
    const registers = [this.#registry];
    const gauge = (name: string, help: string, value: () => number) =>
      new Gauge({
        ...{ name: `detailflow_${name}`, help, registers },
        collect() {
          this.set(value());
        },
      });
    const seconds = (name: string, help: string) =>
      new Histogram({ name: `detailflow_${name}_seconds`, help, buckets: SECONDS, registers });
    this.#requests = new Counter({
      ...{ name: 'detailflow_requests_total', help: 'Answers by route and status', registers },
      labelNames: ['route', 'status'],
    });
    this.#pictures = new Counter({
      ...{ name: 'detailflow_pictures_total', help: 'Pictures by how they ended', registers },
      labelNames: ['outcome'],
    });
    for (const outcome of ['drawn', 'cancelled', 'failed', 'refused'] as const)
      this.#pictures.inc({ outcome }, 0);
    this.#runs = new Histogram({
      ...{ name: 'detailflow_run_pictures', help: 'Pictures that a run of the model serves', registers },
      buckets: [1, 2, 4, 8, 16, 32],
    });
    this.#waited = seconds('wait', 'From a request to the first step of a picture');
    this.#firstPartial = seconds('first_partial', 'From a request to the first preview');
    this.#picture = seconds('picture', 'From a request to a finished picture');
    gauge('pictures_running', 'Pictures that are being drawn', () => occupancy().running);
    gauge('pictures_waiting', 'Pictures that wait for a place', () => occupancy().waiting);
    gauge('ready', '1 while pictures are taken on', () => Number(occupancy().isReady));
    gauge('resident_memory_bytes', 'Memory of the process', () => process.memoryUsage.rss());
  }

  answered(route: string, status: number): void {
    this.#requests.inc({ route, status: String(status) });
  }

  ended(outcome: Outcome, count = 1): void {
    this.#pictures.inc({ outcome }, count);
  }

  ran(pictures: number): void {
    this.#runs.observe(pictures);
  }

  took(what: 'wait' | 'partial' | 'picture', seconds: number): void {
    const histogram = { wait: this.#waited, partial: this.#firstPartial, picture: this.#picture }[what];
    histogram.observe(seconds);
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  /** In the text format of Prometheus. */
  text(): Promise<string> {
    return this.#registry.metrics();
  }
}
