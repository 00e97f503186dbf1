import type { FamilyModel } from '@detailflow/checkpoint';
import type { Guidance } from '@detailflow/core';
import type { NamedGuidance } from '@detailflow/eval';
import type { Model } from '../load';
import { type Options, UsageError } from './command';
import type { Values } from './values';

/** How the guidance scale runs along the steps. */
export const guidanceOptions: Options = {
  'gradual-cfg': { type: 'boolean', help: 'lower the guidance scale group by group' },
  guidance: {
    type: 'string',
    value: 'NAME',
    help: "how the scale runs along the steps: constant, or one of the model's; see inspect",
  },
  'cfg-interval': {
    type: 'string',
    value: 'N',
    help: 'LlamaGen, PAR: end guidance after N tokens (PAR: and again in the groups)',
  },
};

/**
 * Looks before any work is done whether the model has the guidance that is asked for.
 * @throws UsageError
 */
export function checkGuidance(values: Values, { family, ar, intervalGuidance }: FamilyModel): void {
  const interval = values.whole('cfg-interval');
  const given = [
    ...(values.flag('gradual-cfg') ? ['gradual-cfg'] : []),
    ...['guidance', 'cfg-interval'].filter((name) => values.text(name) !== undefined),
  ];
  if (given.length > 1) throw new UsageError(`give one of ${given.map((name) => `--${name}`).join(' and ')}`);
  if (interval !== undefined && !intervalGuidance) {
    throw new UsageError(`--cfg-interval ${interval}: guidance of ${family} cannot end after an interval`);
  }
  const name = guidanceName(values);
  const names = ['constant', ...(ar?.guidances ?? [])];
  if (name !== undefined && !names.includes(name)) {
    const option = values.flag('gradual-cfg') ? '--gradual-cfg' : `--guidance "${name}"`;
    throw new UsageError(`${option}: ${family} has ${names.join(', ')}`);
  }
}

/** What --gradual-cfg and --guidance say. */
export const guidanceName = (values: Values): string | undefined =>
  values.flag('gradual-cfg') ? 'gradual' : values.text('guidance');

/** What all three options say; undefined for the model's own. */
export function guidanceOf(values: Values, model: Model): string | Guidance | undefined {
  const interval = values.whole('cfg-interval');
  return interval === undefined ? guidanceName(values) : model.intervalGuidance(interval);
}

/** The same for figures that are kept: a rule goes by a name. */
export function namedGuidanceOf(values: Values, model: Model): string | NamedGuidance | undefined {
  const rule = guidanceOf(values, model);
  return typeof rule === 'function' ? { name: `interval ${values.whole('cfg-interval')}`, rule } : rule;
}
