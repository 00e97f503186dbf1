import {
  add,
  type Backend,
  checkOptions,
  DetailFlowError,
  type Executable,
  type Graph,
  mul,
  type ParameterSpec,
  type State,
  Tensor,
  type Tensors,
  trace,
  type Weights,
} from '@detailflow/core';
import type { Arrays } from './initialise';
import {
  Buffer,
  type BufferKind,
  type OptimiserOptions,
  type OptimiserStep,
  optimiserFeeds,
  optimiserGraph,
} from './optimiser';

/** What a learner is made of: parameters, optimiser, backends. */
export interface LearnerOptions {
  /**
   * The devices that compute gradients, each with buffers of its own. On a CPU several backends of
   * one thread are as fast as one of several threads, or faster.
   */
  readonly backends: readonly Backend[];
  readonly specs: readonly ParameterSpec[];
  /** Parameters that graphs read and no step changes. */
  readonly frozen?: readonly ParameterSpec[];
  readonly optimiser: OptimiserOptions;
  /** Parameters that have steps of their own, such as those of a discriminator. */
  readonly others?: readonly ParameterGroup[];
  /** Initial parameters, of all groups. */
  readonly parameters: Arrays;
}

/** Parameters that are moved together. */
export interface ParameterGroup {
  readonly specs: readonly ParameterSpec[];
  readonly optimiser: OptimiserOptions;
}

/** A graph compiled for every replica. */
export interface ReplicatedExecutable {
  readonly executables: readonly Executable[];
}

/** What a checkpoint holds of the parameters. */
const kept: readonly BufferKind[] = [Buffer.parameter, Buffer.moment1, Buffer.moment2, Buffer.average];

const groupsOf = ({ specs, optimiser, others = [] }: LearnerOptions): readonly ParameterGroup[] => [
  { specs, optimiser },
  ...others,
];

/** One backend with the buffers of all parameters. */
interface Replica {
  readonly backend: Backend;
  readonly state: State;
}

/**
 * Parameters that learn: they, their gradients and their moments are buffers on the device, and stay there.
 * A step is any number of {@link accumulate} and one {@link update}.
 */
export class Learner {
  /** All that learn, whatever their group. */
  readonly specs: readonly ParameterSpec[];
  readonly #frozen: readonly ParameterSpec[];
  readonly #groups: readonly ParameterGroup[];
  readonly #replicas: readonly Replica[];
  readonly #executables: Executable[] = [];
  readonly #updates = new Map<ParameterGroup, Executable>();
  /** Reads gradients of one replica, adds them to those of another, and hands parameters back. */
  #exchange:
    | { gradients: readonly Executable[]; add: Executable; take: Executable; put: readonly Executable[] }
    | undefined;
  /** Micro-batches since the last update of a group. */
  readonly #accumulated = new Map<ParameterGroup, number>();

  private constructor(options: LearnerOptions, replicas: readonly Replica[]) {
    this.#groups = groupsOf(options);
    this.specs = this.#groups.flatMap(({ specs }) => specs);
    this.#frozen = options.frozen ?? [];
    this.#replicas = replicas;
  }

  /** @throws DetailFlowError `invalid-argument` without a backend, `weights` when parameters do not fit the specs */
  static async create(options: LearnerOptions): Promise<Learner> {
    checkOptions('Learner.create', options, {
      backends: true,
      specs: true,
      frozen: true,
      optimiser: true,
      others: true,
      parameters: true,
    });
    if (options.backends.length === 0)
      throw new DetailFlowError('invalid-argument', 'give at least one backend');
    const replicas: Replica[] = [];
    for (const [i, backend] of options.backends.entries()) {
      const tensors = initialBuffers(options, i === 0);
      replicas.push({ backend, state: await backend.createState(tensors) });
    }
    return new Learner(options, replicas);
  }

  /** How many micro-batches are computed at once. */
  get replicas(): number {
    return this.#replicas.length;
  }

  /**
   * A graph over the buffers of the parameters, and fixed weights, for all replicas or the first alone. Disposed with
   * the learner.
   */
  async compile(
    graph: Graph,
    options: { firstOnly?: boolean; weights?: Weights } = {},
  ): Promise<ReplicatedExecutable> {
    const { firstOnly, weights = new Map() } = options;
    const replicas = firstOnly ? this.#replicas.slice(0, 1) : this.#replicas;
    const executables = await Promise.all(replicas.map(({ backend }) => backend.compile(graph, weights)));
    this.#executables.push(...executables);
    return { executables };
  }

  /** Runs a graph on the first replica. */
  async run(one: ReplicatedExecutable, feeds: Tensors): Promise<Record<string, Tensor>> {
    return one.executables[0].run(feeds, { state: this.#replicas[0].state });
  }

  /**
   * Runs a graph that adds to the gradients once for each micro-batch, as many at once as there are replicas.
   * @param one the graph, or one for each micro-batch
   * @param group whose gradients; default: the first parameters
   * @returns the outputs, in the order of the micro-batches
   */
  async accumulate(
    one: ReplicatedExecutable | readonly ReplicatedExecutable[],
    batches: readonly Tensors[],
    group: ParameterGroup = this.#groups[0],
  ): Promise<Record<string, Tensor>[]> {
    const results: Record<string, Tensor>[] = [];
    const graphOf = (i: number) => ('executables' in one ? one : one[i]);
    await Promise.all(
      this.#replicas.map(async ({ state }, replica) => {
        for (let i = replica; i < batches.length; i += this.#replicas.length) {
          results[i] = await graphOf(i).executables[replica].run(batches[i], { state });
        }
      }),
    );
    this.#accumulated.set(group, (this.#accumulated.get(group) ?? 0) + batches.length);
    return results;
  }

  /**
   * Moves the parameters by the mean of the gradients that were accumulated since the last update.
   * @param group one of the `others` that the learner was made with; default: the first parameters
   * @returns the norm of that mean
   * @throws DetailFlowError `diverged` when it is not finite; parameters and moments are as they were
   */
  async update(
    step: Omit<OptimiserStep, 'accumulated'>,
    group: ParameterGroup = this.#groups[0],
  ): Promise<number> {
    const { specs, optimiser } = group;
    const update = this.#updates.get(group) ?? (await this.#compileFirst(optimiserGraph(specs, optimiser)));
    this.#updates.set(group, update);
    if (this.#replicas.length > 1) await this.#gather();
    const feeds = optimiserFeeds({ ...step, accumulated: this.#accumulated.get(group) ?? 0 }, optimiser);
    const { norm } = await update.run(feeds, { state: this.#replicas[0].state });
    this.#accumulated.set(group, 0);
    const value = norm.data[0] as number;
    if (!Number.isFinite(value)) {
      throw new DetailFlowError('diverged', `step ${step.step}: the norm of the gradients is ${value}`);
    }
    if (this.#replicas.length > 1) await this.#spread();
    return value;
  }

  /**
   * Copies of all buffers of a kind, by the names of the parameters; only the first group has running means, and frozen
   * parameters are their own.
   */
  async read(kind: BufferKind): Promise<Arrays> {
    const arrays: Arrays = new Map();
    for (const { name } of this.#having(kind)) arrays.set(name, await this.readOne(kind, name));
    if (kind === Buffer.average) {
      for (const { name } of this.#frozen) arrays.set(name, await this.readOne(Buffer.parameter, name));
    }
    return arrays;
  }

  /** One buffer. */
  async readOne(kind: BufferKind, name: string): Promise<Float32Array> {
    return (await this.#replicas[0].state.read(`${kind}.${name}`)).data as Float32Array;
  }

  /** Replaces a buffer, on all replicas that have it. */
  async writeOne(kind: BufferKind, name: string, data: Float32Array): Promise<void> {
    const all = [...this.specs, ...this.#frozen];
    const { shape } = all.find((spec) => spec.name === name) as ParameterSpec;
    const holders =
      kind === Buffer.parameter || kind === Buffer.gradient ? this.#replicas : this.#replicas.slice(0, 1);
    for (const { state } of holders) await state.write(`${kind}.${name}`, new Tensor('float32', data, shape));
  }

  /** Everything that a step changes, to go on from later: parameters, moments and running means. */
  async snapshot(): Promise<Record<string, Tensor>> {
    const tensors: Record<string, Tensor> = {};
    for (const kind of kept) {
      for (const { name } of this.#having(kind)) {
        tensors[`${kind}.${name}`] = await this.#replicas[0].state.read(`${kind}.${name}`);
      }
    }
    return tensors;
  }

  /** @throws DetailFlowError `weights` naming the first buffer that is missing or misshapen; nothing is changed then */
  async restore(tensors: Tensors): Promise<void> {
    for (const kind of kept) {
      for (const { name, shape } of this.#having(kind)) requireTensor(tensors, `${kind}.${name}`, shape);
    }
    for (const kind of kept) {
      for (const { name } of this.#having(kind)) {
        await this.writeOne(kind, name, tensors[`${kind}.${name}`].data as Float32Array);
      }
    }
  }

  /** Frees what it holds on the device. */
  async dispose(): Promise<void> {
    for (const executable of this.#executables) await executable.dispose();
    for (const { state } of this.#replicas) await state.dispose();
  }

  /** The parameters that have a buffer of this kind. */
  #having(kind: BufferKind): readonly ParameterSpec[] {
    if (kind === Buffer.parameter) return [...this.specs, ...this.#frozen];
    if (kind !== Buffer.average) return this.specs;
    return this.#groups.flatMap(({ specs, optimiser }) => (optimiser.average ? specs : []));
  }

  async #compileFirst(graph: Graph): Promise<Executable> {
    return (await this.compile(graph, { firstOnly: true })).executables[0];
  }

  /** Adds the gradients of the other replicas to those of the first. */
  async #gather(): Promise<void> {
    const { gradients, add: adding } = await this.#exchanging();
    const [first, ...others] = this.#replicas;
    for (const [i, { state }] of others.entries()) {
      const found = await gradients[i].run({}, { state });
      await adding.run(found, { state: first.state });
    }
  }

  /** Gives the parameters of the first replica to the others, whose gradients become zeros. */
  async #spread(): Promise<void> {
    const { take, put } = await this.#exchanging();
    const [first, ...others] = this.#replicas;
    const parameters = await take.run({}, { state: first.state });
    await Promise.all(others.map(({ state }, i) => put[i].run(parameters, { state })));
  }

  async #exchanging() {
    if (this.#exchange) return this.#exchange;
    const others = this.#replicas.slice(1);
    const compileAll = async (graph: Graph) => {
      const executables = await Promise.all(others.map(({ backend }) => backend.compile(graph, new Map())));
      this.#executables.push(...executables);
      return executables;
    };
    const { specs } = this;
    this.#exchange = {
      gradients: await compileAll(readingGraph(specs, Buffer.gradient)),
      add: await this.#compileFirst(
        trace((g) => {
          for (const { name, shape } of specs) {
            const key = `${Buffer.gradient}.${name}`;
            g.update(key, add(g.state(key, shape), g.input(name, 'f32', shape)));
          }
          return {};
        }),
      ),
      take: await this.#compileFirst(readingGraph(specs, Buffer.parameter)),
      put: await compileAll(
        trace((g) => {
          for (const { name, shape } of specs) {
            const [parameter, gradient] = [`${Buffer.parameter}.${name}`, `${Buffer.gradient}.${name}`];
            g.state(parameter, shape);
            g.update(parameter, mul(g.input(name, 'f32', shape), 1));
            g.update(gradient, mul(g.state(gradient, shape), 0));
          }
          return {};
        }),
      ),
    };
    return this.#exchange;
  }
}

/** A graph that gives the buffers of a kind, by the names of the parameters. */
function readingGraph(specs: readonly ParameterSpec[], kind: BufferKind): Graph {
  return trace((g) =>
    Object.fromEntries(specs.map(({ name, shape }) => [name, g.state(`${kind}.${name}`, shape)])),
  );
}

/** The first replica has all buffers, the others only what gradients need. */
function initialBuffers(options: LearnerOptions, isFirst: boolean): Tensors {
  const tensors: Record<string, Tensor> = {};
  const learned = groupsOf(options).flatMap(({ specs, optimiser }) =>
    specs.map((spec) => ({ spec, optimiser })),
  );
  const frozen = (options.frozen ?? []).map((spec) => ({ spec, optimiser: undefined }));
  for (const { spec, optimiser } of [...learned, ...frozen]) {
    const { name, shape } = spec;
    const size = shape.reduce((a, b) => a * b, 1);
    const data = options.parameters.get(name);
    if (data?.length !== size) {
      throw new DetailFlowError(
        'weights',
        `the initial parameter has ${data?.length ?? 'no'} values, must have ${size}`,
        { entry: name },
      );
    }
    const put = (kind: BufferKind, values: Float32Array) => {
      tensors[`${kind}.${name}`] = new Tensor('float32', values, shape);
    };
    put(Buffer.parameter, data);
    if (!optimiser) continue;
    put(Buffer.gradient, new Float32Array(size));
    if (!isFirst) continue;
    put(Buffer.moment1, new Float32Array(size));
    put(Buffer.moment2, new Float32Array(size));
    if (optimiser.average) put(Buffer.average, data.slice());
  }
  return tensors;
}

function requireTensor(tensors: Tensors, name: string, shape: readonly number[]): void {
  const found = tensors[name];
  if (found?.type === 'float32' && found.dims.join() === shape.join()) return;
  throw new DetailFlowError(
    'weights',
    found
      ? `the checkpoint has ${found.type} [${found.dims}], this configuration needs float32 [${shape}]`
      : 'the checkpoint does not have this tensor, but this configuration needs it',
    { entry: name },
  );
}
