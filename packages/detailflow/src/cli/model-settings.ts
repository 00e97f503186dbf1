import type { ConfigObject } from '@detailflow/checkpoint';
import { readConfig } from '@detailflow/checkpoint/node';
import { type Options, UsageError } from './command';
import type { Values } from './values';

/** What commands take that open models of all families. */
export const settingsOptions: Options = {
  settings: {
    type: 'string',
    value: 'FILE',
    help: 'what no file of the model says, as .json or .yaml, such as {"imageSize": 384}',
  },
  scales: {
    type: 'string',
    value: 'LIST',
    help: 'VAR, FlexVAR: sides of the maps, such as 1,2,3,4,6, or 1,2x3,4x6 (rows x columns)',
  },
  'tokenizer-key': {
    type: 'string',
    value: 'KEY',
    help: 'model or ema: which weights of an official DetailFlow tokenizer (default: model)',
  },
  'ar-key': {
    type: 'string',
    value: 'KEY',
    help: 'model or ema: which weights of an official DetailFlow AR model (default: ema)',
  },
};

/** What --settings, --scales, --tokenizer-key and --ar-key say, together; undefined where none is given. */
export async function modelSettings(values: Values): Promise<ConfigObject | undefined> {
  const [file, list] = [values.text('settings'), values.text('scales')];
  const [tokenizerKey, arKey] = ['tokenizer-key', 'ar-key'].map((name) =>
    values.choice(name, ['model', 'ema'] as const),
  );
  if ([file, list, tokenizerKey, arKey].every((one) => one === undefined)) return undefined;
  if (file !== undefined && !/\.(json|ya?ml)$/.test(file)) {
    throw new UsageError(`--settings "${file}": give a .json or .yaml file`);
  }
  const settings = file === undefined ? {} : await readConfig(file);
  return {
    ...settings,
    ...(list !== undefined && { scales: parseScaleList(list) }),
    ...(tokenizerKey && { tokenizerKey }),
    ...(arKey && { arKey }),
  };
}

/** "1,2x3" -> [1, [2, 3]]. */
function parseScaleList(text: string): (number | [number, number])[] {
  return text.split(',').map((part) => {
    const match = /^\s*(\d{1,4})(?:\s*x\s*(\d{1,4}))?\s*$/.exec(part);
    if (!match) throw new UsageError(`--scales "${text}": give sides such as 1,2,3 or 1,2x3`);
    const rows = Number(match[1]);
    return match[2] === undefined ? rows : [rows, Number(match[2])];
  });
}
