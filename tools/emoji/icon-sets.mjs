// The drawings: icon sets of @iconify-json, each icon with its code points.
import { bareCode, tones } from './emoji-list.mjs';

/**
 * Author, licence and source of the drawings of every set; where a package says less than its source, the source counts.
 * In the order in which they are asked for the code points of a name. `wording` is what a set asks its users to say.
 */
export const credits = {
  noto: {
    title: 'Noto Emoji',
    author: 'Google LLC',
    licence: 'Apache-2.0',
    source: 'https://github.com/googlefonts/noto-emoji',
  },
  'noto-v1': {
    title: 'Noto Emoji (version 1)',
    author: 'Google LLC',
    licence: 'Apache-2.0',
    source: 'https://github.com/googlefonts/noto-emoji',
  },
  twemoji: {
    title: 'Twemoji',
    author: 'Twitter, Inc and other contributors',
    licence: 'CC-BY-4.0',
    source: 'https://github.com/jdecked/twemoji',
  },
  'fluent-emoji': {
    title: 'Fluent Emoji',
    author: 'Microsoft Corporation',
    licence: 'MIT',
    source: 'https://github.com/microsoft/fluentui-emoji',
  },
  'fluent-emoji-flat': {
    title: 'Fluent Emoji (flat)',
    author: 'Microsoft Corporation',
    licence: 'MIT',
    source: 'https://github.com/microsoft/fluentui-emoji',
  },
  emojione: {
    title: 'EmojiTwo (Emoji One 2)',
    author: 'Ranks.com and contributors of EmojiTwo',
    licence: 'CC-BY-4.0',
    source: 'https://github.com/EmojiTwo/emojitwo',
    wording:
      'Emoji artwork is provided by [Emojitwo](https://github.com/EmojiTwo/emojitwo), originally released as ' +
      '[Emojione 2.2](https://www.emojione.com) by [Ranks.com](http://www.ranks.com) with contributions from the Emojitwo ' +
      'community, and is licensed under [CC-BY 4.0](https://creativecommons.org/licenses/by/4.0/legalcode).',
  },
  fxemoji: {
    title: 'FxEmojis',
    author: 'Mozilla Foundation',
    licence: 'CC-BY-4.0', // its Apache-2.0 is for the code
    source: 'https://github.com/mozilla/fxemoji',
  },
  'streamline-emojis': {
    title: 'Streamline Emojis',
    author: 'Streamline',
    licence: 'CC-BY-4.0',
    source: 'https://github.com/webalys-hq/streamline-vectors',
  },
};

/** Sets of one look, without outlines, that draw nearly all emoji. The model of the repository is trained on these. */
export const alike = ['noto', 'noto-v1', 'twemoji', 'fluent-emoji', 'fluent-emoji-flat', 'emojione'];

/** Sets that draw one emoji in several ways, under names of their own. */
const severalWays = new Set(['streamline-emojis']);

/** Names that a set gives to what is called otherwise elsewhere. */
const otherNames = {
  'champagne-glass-1': 'clinking-glasses',
  'champagne-glass-2': 'clinking-glasses',
  'red-wine-glass': 'wine-glass',
  'white-wine-glass': 'wine-glass',
  'flag-for-swaziland': 'flag-eswatini',
};
for (const [i, word] of 'zero one two three four five six seven eight nine'.split(' ').entries()) {
  otherNames[`digit-${word}`] = `keycap-${i}`;
}
/** This set calls flags by the country alone, and turkey is one of them. */
const exceptions = { 'streamline-emojis turkey': 'flag-turkiye' };

async function readSet(json, set) {
  const [icons, chars] = [
    await json('@iconify-json', set, 'icons.json'),
    await json('@iconify-json', set, 'chars.json'),
  ];
  const { version } = await json('@iconify-json', set, 'package.json');
  const codes = new Map(Object.entries(chars).map(([code, name]) => [name, bareCode(code)]));
  return { set, icons, version, codes };
}

/** Names without any separators, for sets that write them as one word. */
const squeeze = (name) => name.replaceAll('-', '').replace(/\d$/, '');

/** Finds the code points of an icon: the set says them, or another set or Unicode has the name. */
function codeFinder(sets, { byCode, byName }) {
  const known = new Map();
  for (const { codes, icons } of sets) {
    for (const [name, code] of codes) if (!known.has(name)) known.set(name, code);
    for (const [alias, { parent }] of Object.entries(icons.aliases ?? {})) {
      if (codes.has(parent) && !known.has(alias)) known.set(alias, codes.get(parent));
    }
  }
  const squeezed = new Map();
  for (const [name, code] of [...known, ...byName]) {
    if (!squeezed.has(squeeze(name))) squeezed.set(squeeze(name), code);
  }
  const named = (name) => known.get(name) ?? byName.get(name);
  const withTone = (name) => {
    const [, stem, tone] = /^(.*)-(light|medium-light|medium|medium-dark|dark)$/.exec(name) ?? [];
    const base = stem && named(stem);
    if (!base) return undefined;
    const [first] = base.split('-');
    const toned = `${first}-${tones[tone]}${base.slice(first.length)}`;
    return byCode.has(toned) ? toned : undefined;
  };
  return ({ set, codes }, name) => {
    const country = name.replace(/^flag-for-(flag-)?/, 'flag-');
    const tried = [otherNames[name] ?? name, country, country.replaceAll('-and-', '-'), `flag-${name}`];
    return (
      byName.get(exceptions[`${set} ${name}`]) ??
      codes.get(name) ??
      tried.map(named).find(Boolean) ??
      withTone(name) ??
      squeezed.get(squeeze(name))
    );
  };
}

/**
 * The icons that are to be drawn, in a fixed order.
 * @param options.sets names of sets
 * @param options.leave told of every icon that is left out: why, set and name
 * @returns tasks { set, name, code, what, body, box } and the versions of the sets
 */
export async function readIcons(json, list, { sets: names, leave }) {
  // all are asked for code points, so that an icon has the same ones whatever is drawn
  const sets = await Promise.all(Object.keys(credits).map((set) => readSet(json, set)));
  const codeOf = codeFinder(sets, list);
  const tasks = [];
  for (const one of sets.filter(({ set }) => names.includes(set))) {
    const { set, icons } = one;
    const seen = new Set();
    for (const name of Object.keys(icons.icons).sort()) {
      const icon = icons.icons[name];
      const code = codeOf(one, name);
      const what = code && list.byCode.get(code);
      const key = severalWays.has(set) ? name : code;
      const reason = icon.hidden ? 'hidden' : what ? seen.has(key) && 'twice' : 'unknown';
      if (reason) {
        leave(reason, set, name);
        continue;
      }
      seen.add(key);
      tasks.push({ set, name, code, what, body: icon.body, box: boxOf(icon, icons) });
    }
  }
  return { tasks, versions: new Map(sets.map(({ set, version }) => [set, version])) };
}

/** Left, top, width and height of a drawing. */
function boxOf(icon, icons) {
  const fallback = { left: 0, top: 0, width: 16, height: 16 };
  return ['left', 'top', 'width', 'height'].map((key) => icon[key] ?? icons[key] ?? fallback[key]);
}
