/** Settings that may change while a run goes on: they change neither what is learned from nor which parameters there are. */
const harmless: readonly RegExp[] = [
  /^(name|replicas|trainedOn)$/,
  /^(checkpoints|validation|classifier)\./,
  /^(tokenizer|tokenModel)\.recipe\.(microBatch|schedule\..*)$/,
];

/** One setting that is not what it was. */
export interface SettingChange {
  readonly setting: string;
  readonly from: unknown;
  readonly to: unknown;
}

/** All settings in which two configurations differ, named with dots. */
export function settingChanges(before: unknown, after: unknown, prefix = ''): SettingChange[] {
  const isObject = (x: unknown): x is Record<string, unknown> =>
    typeof x === 'object' && x !== null && !Array.isArray(x);
  if (!isObject(before) || !isObject(after)) {
    const isSame = JSON.stringify(before) === JSON.stringify(after);
    return isSame ? [] : [{ setting: prefix, from: before, to: after }];
  }
  const names = new Set([...Object.keys(before), ...Object.keys(after)]);
  return [...names].flatMap((name) => {
    const setting = prefix === '' ? name : `${prefix}.${name}`;
    return settingChanges(before[name], after[name], setting);
  });
}

/**
 * The first change that a run cannot go on with; undefined when there is none.
 * @param begun which stages have checkpoints: what concerns only others may change freely
 */
export function forbiddenChange(
  changes: readonly SettingChange[],
  begun: { readonly tokenizer: boolean; readonly ar: boolean },
): SettingChange | undefined {
  return changes.find(({ setting }) => {
    if (harmless.some((pattern) => pattern.test(setting))) return false;
    if (setting.startsWith('tokenModel.')) return begun.ar;
    return true;
  });
}
