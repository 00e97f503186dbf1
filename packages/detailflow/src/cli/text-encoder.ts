import type { FamilyModel } from '@detailflow/checkpoint';
import { DetailFlowError, describe } from '@detailflow/core';
import type { EncodeText } from '@detailflow/serve';
import { type Options, UsageError } from './command';
import { importOwnModule } from './own-module';
import { showNotice } from './show-notice';
import type { Values } from './values';

export const textEncoderOptions: Options = {
  'text-encoder': {
    type: 'string',
    value: 'FILE',
    help: 'for models of texts: an ES module that exports encodeText; it runs as a program of yours',
  },
  'max-prompt': { type: 'string', value: 'N', help: 'characters of a text, 1 to 32000 (default 4000)' },
  'max-texts': { type: 'string', value: 'N', help: 'texts that are encoded at once (default 1)' },
  'text-timeout': { type: 'string', value: 'S', help: 'seconds that encoding a text may take (default 60)' },
};

const limits = ['max-prompt', 'max-texts', 'text-timeout'] as const;

/** Who reads the prompts of a model of texts, and how much of them. */
export interface TextEncoding {
  readonly encodeText?: EncodeText;
  readonly promptLimit?: number;
  readonly texts?: number;
  readonly textTimeout?: number;
}

/**
 * What {@link textEncoderOptions} say.
 * @throws UsageError for limits without an encoder; DetailFlowError `io` where the module cannot be read, `format` where it does not
 * load, or exports no function encodeText
 */
export async function textEncoding(values: Values): Promise<TextEncoding> {
  const file = values.text('text-encoder');
  const given = {
    promptLimit: values.whole('max-prompt', { least: 1, most: 32_000 }),
    texts: values.whole('max-texts', { least: 1, most: 256 }),
    textTimeout: values.whole('text-timeout', { least: 1, most: 86_400 }),
  };
  if (file === undefined) {
    const alone = limits.find((name) => values.text(name) !== undefined);
    if (alone !== undefined) throw new UsageError(`--${alone} is for --text-encoder`);
    return {};
  }
  const { encodeText } = (await importOwnModule(file, '--text-encoder')) as { encodeText?: unknown };
  if (typeof encodeText === 'function') return { ...given, encodeText: encodeText as EncodeText };
  const reason = encodeText === undefined ? 'is not exported' : `is ${describe(encodeText)}, and no function`;
  throw new DetailFlowError(
    'format',
    `${reason}: export async function encodeText(prompt, { places, width, signal }) that gives { features, mask }`,
    { file, entry: 'encodeText' },
  );
}

/**
 * An encoder belongs to a model of texts, and to no other; without one it draws for no text, which is said.
 * @throws UsageError for the encoder of a model of classes
 */
export function requireFitting({ encodeText }: TextEncoding, { ar }: FamilyModel): void {
  if (encodeText && !ar?.text)
    throw new UsageError('--text-encoder is for models of texts; this one has classes');
  if (!encodeText && ar?.text) {
    showNotice(
      'this model draws for texts, and nobody reads them: give --text-encoder FILE; until then prompts are refused',
    );
  }
}
