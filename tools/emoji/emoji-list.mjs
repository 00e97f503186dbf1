// What emoji there are: code points, English names and subgroups of Unicode, from emojibase-data.

/** Skin tones by the words that names of icons use. */
export const tones = {
  light: '1F3FB',
  'medium-light': '1F3FC',
  medium: '1F3FD',
  'medium-dark': '1F3FE',
  dark: '1F3FF',
};

/** Code points in one spelling: capitals, no variation selectors, no joiners. */
export const bareCode = (hex) =>
  hex
    .toUpperCase()
    .replaceAll(/-?FE0F/g, '')
    .replaceAll(/-?200D/g, '-')
    .replaceAll(/-+/g, '-');

/** The code points without those of skin tones: what all tones of one emoji share. */
export const untoned = (code) => {
  const parts = code.split('-').filter((part) => !/^1F3F[B-F]$/.test(part));
  return parts.length === 0 ? code : parts.join('-');
};

const slug = (text) =>
  text
    .normalize('NFKD')
    .toLowerCase()
    .replaceAll(/[’'“”".!:,()&]/g, '')
    .replaceAll(/[^a-z0-9]+/g, '-')
    .replaceAll(/^-|-$/g, '');

/**
 * @param json reads a JSON file of an npm package
 * @returns byCode: code points -> { label, subgroup, tone }; byName: name as icons are called -> code points
 */
export async function readEmojiList(json) {
  const [byCode, byName] = [new Map(), new Map()];
  const { subgroups } = await json('emojibase-data', 'meta', 'groups.json');
  for (const one of await json('emojibase-data', 'en', 'data.json')) {
    if (one.subgroup === undefined) continue;
    const subgroup = subgroups[one.subgroup];
    byCode.set(bareCode(one.hexcode), { label: one.label, subgroup, tone: '' });
    byName.set(slug(one.label), bareCode(one.hexcode));
    for (const skin of one.skins ?? []) {
      const tone = [skin.tone].flat().join('');
      byCode.set(bareCode(skin.hexcode), { label: one.label, subgroup, tone });
      byName.set(slug(skin.label), bareCode(skin.hexcode));
    }
  }
  return { byCode, byName };
}
