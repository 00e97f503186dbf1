import { DetailFlowError, type Weight, type Weights } from '@detailflow/core';

/**
 * Weights by name, without the prefixes `module.` and `_orig_mod.` that training wrappers put before names.
 * @throws DetailFlowError `weights` when two names become the same
 */
export function withoutPrefixes(weights: Iterable<Weight>, file: string): Weights {
  const result = new Map<string, Weight>();
  for (const weight of weights) {
    const name = withoutWrappers(weight.name);
    if (result.has(name)) {
      throw new DetailFlowError(
        'weights',
        'two weights have this name once the prefixes module. and _orig_mod. are taken off',
        { file, entry: name },
      );
    }
    result.set(name, named(name, weight));
  }
  return result;
}

/** The same weight under another name. Nothing of it is asked for yet: what cannot be read fails when it is used. */
function named(name: string, weight: Weight): Weight {
  return {
    name,
    get dtype() {
      return weight.dtype;
    },
    get shape() {
      return weight.shape;
    },
    get location() {
      return weight.location;
    },
    get rounded() {
      return weight.rounded;
    },
    read: () => weight.read(),
  };
}

const wrappers = ['module.', '_orig_mod.'];

function withoutWrappers(name: string): string {
  for (let at = 0; ; ) {
    const wrapper = wrappers.find((prefix) => name.startsWith(prefix, at));
    if (wrapper === undefined) return name.slice(at);
    at += wrapper.length;
  }
}

/** The weights whose names do not begin with `prefix`. */
export function withoutPart(weights: Weights, prefix: string): Weights {
  return new Map([...weights].filter(([name]) => !name.startsWith(prefix)));
}
