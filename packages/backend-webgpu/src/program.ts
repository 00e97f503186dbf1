import type { ElementType } from './element-type';
import type { Gpu, GpuArray, Launch } from './gpu';
import type { Kernel } from './kernel';
import { pointwiseKernel } from './kernels/pointwise';

/** An array of a program: it has a place among the arrays of a run, but no buffer yet. */
export interface Slot {
  readonly place: number;
  readonly size: number;
  readonly type: ElementType;
  /** How many hold it; after the last one released it a run frees it. */
  holders: number;
}

/** A batch of matrices. */
interface Matrices {
  readonly array: Slot;
  readonly shape: readonly number[];
}

interface Product {
  readonly a: Matrices;
  readonly b: Matrices;
  readonly options: { transposeA: boolean; transposeB: boolean; size: number };
}

/** What is done on the device, and what is not needed any more after it. */
type Command = { readonly released: number[] } & (
  | {
      readonly kind: 'launch';
      readonly launch: Launch;
      readonly made?: Slot;
      readonly places: readonly number[];
    }
  | { readonly kind: 'product'; readonly made: Slot; readonly product: Product }
  | { readonly kind: 'zeros'; readonly made: Slot }
);

/** The arrays of one run, by place. */
export type RunArrays = (GpuArray | undefined)[];

/**
 * All that a run does for one set of extents, found out once: kernels, their numbers, and when arrays are freed. It holds
 * nothing on the device.
 */
export class Program {
  readonly #gpu: Gpu;
  readonly #commands: Command[] = [];
  #places = 0;
  /** Arrays that are brought to a run, and not its own to free. */
  readonly #brought = new Set<number>();

  constructor(gpu: Gpu) {
    this.#gpu = gpu;
  }

  /** Arrays that a run is given, or makes. */
  get places(): number {
    return this.#places;
  }

  /** An array that every run brings. */
  bring(size: number, type: ElementType): Slot {
    const slot = this.#slot(size, type);
    this.#brought.add(slot.place);
    return slot;
  }

  kernel(key: string, make: () => Kernel): Kernel {
    return this.#gpu.kernel(key, make);
  }

  /** @throws DetailFlowError `limit` when the device takes no array of so many elements */
  requireRoom(size: number, what: string): void {
    this.#gpu.requireRoom(size, what);
  }

  /**
   * A kernel that makes an array of `size` elements.
   * @param run.groups workgroups; default: one thread for each element
   * @param run.into write over this array instead
   */
  dispatch(
    kernel: Kernel,
    inputs: readonly Slot[],
    run: { size: number; type: ElementType; numbers: readonly number[]; groups?: number; into?: Slot },
  ): Slot {
    const { size, type, numbers, groups, into } = run;
    if (size === 0) return this.zeros(0, type);
    if (!into) this.requireRoom(size, 'a result');
    const made = into ?? this.#slot(size, type);
    const types = [type, ...inputs.map((input) => input.type)];
    const launch = this.#gpu.prepare(kernel, { types, size, numbers, groups });
    const places = [made, ...inputs].map(({ place }) => place);
    this.#commands.push({ kind: 'launch', launch, places, made: into ? undefined : made, released: [] });
    return made;
  }

  zeros(size: number, type: ElementType): Slot {
    this.requireRoom(size, 'a result');
    const made = this.#slot(size, type);
    this.#commands.push({ kind: 'zeros', made, released: [] });
    return made;
  }

  /** A product of tfjs. */
  product(a: Matrices, b: Matrices, options: Product['options']): Slot {
    this.requireRoom(options.size, 'a product');
    const made = this.#slot(options.size, 'float32');
    this.#commands.push({ kind: 'product', made, product: { a, b, options }, released: [] });
    return made;
  }

  /** Halves as float32, for what cannot read them; anything else as it is. To be released. */
  widened(slot: Slot): Slot {
    if (slot.type !== 'float16') return this.hold(slot);
    const kernel = this.kernel('widened', () => pointwiseKernel('v0', ['same'], 1));
    return this.dispatch(kernel, [slot], { size: slot.size, type: 'float32', numbers: [] });
  }

  hold(slot: Slot): Slot {
    slot.holders++;
    return slot;
  }

  release(slot: Slot): void {
    slot.holders--;
    if (slot.holders > 0 || this.#brought.has(slot.place)) return;
    this.#commands[this.#commands.length - 1].released.push(slot.place);
  }

  /** Records everything. @param arrays what is brought; what stays to the end is added */
  run(arrays: RunArrays): void {
    const gpu = this.#gpu;
    for (const command of this.#commands) {
      if (command.kind === 'launch') {
        const { launch, made, places } = command;
        if (made) arrays[made.place] = gpu.allocate(made.size, made.type);
        gpu.launch(
          launch,
          places.map((place) => arrays[place] as GpuArray),
        );
      } else if (command.kind === 'product') {
        const { a, b, options } = command.product;
        const matrices = ({ array, shape }: Matrices) => ({
          buffer: (arrays[array.place] as GpuArray).buffer,
          shape,
        });
        arrays[command.made.place] = gpu.product(matrices(a), matrices(b), options);
      } else {
        arrays[command.made.place] = gpu.zeros(command.made.size, command.made.type);
      }
      for (const place of command.released) {
        gpu.release(arrays[place] as GpuArray);
        arrays[place] = undefined;
      }
    }
  }

  #slot(size: number, type: ElementType): Slot {
    return { place: this.#places++, size, type, holders: 1 };
  }
}
