import type { ModelHalf, TokenModelHalf } from '@detailflow/checkpoint';
import { DetailFlowError } from '@detailflow/core';
import { isDetailFlow } from '../detailflow-family';
import type { ModelSource } from '../folder-source';
import { type OpenFamilyOptions, openFamilyModel } from '../open-family';
import { recommendedCfg } from '../recommended-cfg';
import { type Verification, verifyModel } from '../verify-model';
import { type Command, type Report, UsageError } from './command';
import { familiesOf } from './family-module';
import { familyOptions, hubOptions, modelSource, namedFolder } from './model-options';
import { modelSettings } from './model-settings';
import { following } from './progress';
import { Values } from './values';

export const inspectCommand: Command = {
  name: 'inspect',
  summary: 'say what a model is, and check that its weights fit',
  usage: 'DIR | --tokenizer DIR [--ar DIR]',
  options: {
    ...familyOptions,
    verify: { type: 'boolean', help: 'read and check everything: checksums, hashes, every number' },
  },
  examples: [
    'inspect @detailflow/model-fashion-32',
    'inspect --model @detailflow/model-fashion-32 --json',
    'inspect out/my-model --verify',
  ],
  positionalModel: true,
  async run(invocation) {
    const model = source(invocation);
    const values = new Values(invocation);
    const reading = { settings: await modelSettings(values), families: await familiesOf(values) };
    const verified = values.flag('verify') ? await verify(model, invocation, reading) : undefined;
    const { signal } = invocation;
    const opened = await openFamilyModel(model, { ...reading, signal, hub: hubOptions(values) });
    try {
      const { card, family, tokenizer, ar } = opened;
      const cfg = recommendedCfg(card);
      const parts = { tokenizer: summary(tokenizer), ...(ar && { ar: summary(ar) }) };
      const kind = card ? 'bundle' : 'official';
      const named = isDetailFlow(opened) ? '' : `${family}, `;
      const title = `${named}${card ? `${card.name} (${card.license})` : 'official checkpoint'}`;
      return {
        lines: [
          title,
          ...Object.entries(parts).flatMap(([name, part]) => [
            `${name}: ${part.parameters.toLocaleString('en')} parameters in ${part.weights} tensors (${part.dtypes.join(', ')}), ${part.file}`,
            `  ${part.description}`,
            ...Object.entries(part.config).map(
              ([key, value]) => `  ${key}: ${typeof value === 'object' ? JSON.stringify(value) : value}`,
            ),
          ]),
          ...classLines(card?.classNames),
          ...(cfg === undefined ? [] : [`recommended CFG: ${cfg} (what is used where --cfg is not given)`]),
          ...samplingLines(ar),
          ...(verified ? verificationLines(verified) : []),
        ],
        json: { kind, family, ...(card && { card }), ...parts, ...(verified && { verified }) },
      } satisfies Report;
    } finally {
      await opened.close();
    }
  },
};

/** What is used where nothing is said, of a family that recommends something. */
function samplingLines(ar: TokenModelHalf | undefined): string[] {
  if (!ar?.sampling) return [];
  const { cfg, guidance = 'constant', topK, topP } = ar.sampling;
  const rest = [topK !== undefined && `top-k ${topK}`, topP !== undefined && `top-p ${topP}`].filter(Boolean);
  return [
    `defaults: ${[`CFG ${cfg}, ${guidance}`, ...rest].join(', ')} (guidances: ${['constant', ...ar.guidances].join(', ')})`,
  ];
}

/** "  9  ankle boot": what --class takes. */
function classLines(names: readonly string[] = []): string[] {
  if (names.length === 0) return [];
  const width = String(names.length - 1).length;
  return ['classes:', ...names.map((name, i) => `  ${String(i).padStart(width)}  ${name}`)];
}

const MOST_FAULTS = 20;

/** @throws DetailFlowError `format` with the faults, where there are any */
async function verify(
  model: ModelSource,
  { signal, progress }: Parameters<Command['run']>[0],
  reading: Pick<OpenFamilyOptions, 'settings' | 'families'>,
): Promise<Verification> {
  try {
    const found = await verifyModel(model, {
      ...reading,
      signal,
      onProgress: following(progress),
    });
    const { faults } = found;
    if (faults.length === 0) return found;
    const more = faults.length > MOST_FAULTS ? [`and ${faults.length - MOST_FAULTS} more`] : [];
    const shown = [...faults.slice(0, MOST_FAULTS), ...more].map((fault) => `\n  ${fault}`).join('');
    throw new DetailFlowError('format', `the model is damaged (${faults.length} faults):${shown}`);
  } finally {
    progress.stop();
  }
}

function verificationLines({ files, tokenizer, ar, notChecked }: Verification): string[] {
  const tensors = tokenizer.tensors + (ar?.tensors ?? 0);
  const values = tokenizer.values + (ar?.values ?? 0);
  return [
    'checked, and found sound:',
    ...files.map(({ file, bytes, members, sha256 }) => {
      const how = [
        `${bytes.toLocaleString('en')} bytes`,
        ...(members ? [`CRC-32 of ${members.checked} zip members`] : []),
        ...(sha256 ? ['SHA-256'] : []),
      ];
      return `  ${file}: ${how.join(', ')}`;
    }),
    `  ${values.toLocaleString('en')} numbers in ${tensors} tensors are finite`,
    ...(notChecked.length > 0 ? ['not checked:', ...notChecked.map((line) => `  ${line}`)] : []),
  ];
}

function source(invocation: Parameters<Command['run']>[0]): ModelSource {
  const { positionals } = invocation;
  const values = new Values(invocation);
  if (positionals.length === 0) return modelSource(values, 'tokenizer');
  const named = ['model', 'tokenizer', 'ar'].some((name) => values.text(name) !== undefined);
  if (positionals.length > 1 || named) throw new UsageError('give one model');
  return namedFolder(positionals[0]);
}

function summary(part: ModelHalf) {
  const weights = [...part.weights.values()];
  return {
    file: part.file,
    description: part.description,
    config: part.config,
    weights: weights.length,
    parameters: weights.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0),
    dtypes: [...new Set(weights.map(({ dtype, rounded }) => (rounded ? `q${rounded.bits}` : dtype)))],
  };
}
