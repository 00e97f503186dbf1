import { bundleFiles } from './bundle-card';
import type { Family, FamilyModel, ModelFiles } from './family';
import { bundleFamily, openFamilyBundle, requireSameConfig } from './family-bundle';
import {
  type FamilyHalves,
  type FoundHalf,
  type HalfRule,
  openHalves,
  recogniseHalves,
} from './family-halves';
import { halfSettings } from './family-settings';

/** The halves of a model, and what frees them. */
export interface ModelHalves {
  readonly tokenizer: FoundHalf;
  readonly ar?: FoundHalf;
  /** Closes the files. */
  close(): Promise<void>;
}

/** What a family of a tokenizer and a transformer, each in a file of its own, says of itself. */
export interface HalvesFamilyOptions {
  readonly name: string;
  readonly rules: { readonly tokenizer: HalfRule; readonly ar: HalfRule };
  /** Whether files without a transformer are this family's, where others have such tokenizers, too; default: yes. */
  owns?(halves: FamilyHalves): boolean;
  /** The model of two halves, checked against each other. @throws DetailFlowError */
  model(halves: ModelHalves): FamilyModel;
}

/**
 * A family whose halves are known by names and shapes of weights, in files of any name, or lie in a bundle. A bundle keeps the
 * settings that no file of weights says: its card holds the configurations, which must be those that the weights say.
 */
export function familyOfHalves({ name, rules, owns, model }: HalvesFamilyOptions): Family {
  return {
    name,
    async recognise(files, options) {
      const bundle = await bundleFamily(files);
      if (bundle !== undefined) return bundle === name;
      const halves = await recogniseHalves(files, rules, options);
      if (!halves) return false;
      await halves.close();
      return halves.ar !== undefined || (halves.tokenizer !== undefined && (owns?.(halves) ?? true));
    },
    async open(files, options) {
      if ((await bundleFamily(files)) !== undefined) return openBundle(files, rules, model);
      const halves = await openHalves(files, rules, options);
      try {
        return model(halves);
      } catch (error) {
        await halves.close();
        throw error;
      }
    },
  };
}

function openBundle(
  files: ModelFiles,
  rules: HalvesFamilyOptions['rules'],
  model: HalvesFamilyOptions['model'],
): Promise<FamilyModel> {
  return openFamilyBundle(files, ({ card, close, ...weights }, tree) => {
    const half = (role: 'tokenizer' | 'ar'): FoundHalf | undefined => {
      const [part, found] = [card[role], weights[role]];
      return (
        part &&
        found && {
          weights: found,
          file: `${tree.name}/${part.weights}`,
          settings: halfSettings([part.config, files.settings], rules[role]),
        }
      );
    };
    const opened = model({ tokenizer: half('tokenizer') as FoundHalf, ar: half('ar'), close });
    // Whoever gives settings means them instead.
    if (files.settings) return opened;
    for (const role of ['tokenizer', 'ar'] as const) {
      const [part, stated] = [opened[role], card[role]];
      if (!part || !stated) continue;
      requireSameConfig(part.config, stated.config, {
        file: `${tree.name}/${bundleFiles.card}`,
        entry: role,
      });
    }
    return opened;
  });
}
