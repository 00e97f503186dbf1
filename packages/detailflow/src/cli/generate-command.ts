import path from 'node:path';
import type { FamilyModel, TokenModelHalf } from '@detailflow/checkpoint';
import {
  type Condition,
  DetailFlowError,
  type Picture,
  pictureFromPixels,
  scheduleSteps,
  stepAt,
  type Tensor,
} from '@detailflow/core';
import { gridPicture, stripPicture } from '@detailflow/data';
import { classLabels } from './class-labels';
import { type Command, deviceOptions, InterruptedError, UsageError } from './command';
import { type DrawnPictures, drawPictures, type PictureJob } from './draw-pictures';
import { hasExtension, pictureTarget, readNoise, writePicture, writeTensor } from './files';
import { checkGuidance, guidanceName, guidanceOf, guidanceOptions } from './guidance-options';
import { wasInterrupted } from './interruption';
import { BATCH, chunks, dtypeOptions, familyOptions, withModel } from './model-options';
import { pictureScale, requireSheetFits, scaleOption } from './picture-scale';
import { drawElsewhere } from './queue/generate-task';
import { modelHints, modelIdentity } from './queue/model-identity';
import { leftLines, machineLines, openQueue, workOptions } from './queue/queue-options';
import { longestSide, pictureSize, pictureSizeOptions, resizedForEvaluation } from './size-options';
import { joinRows, sliceRows } from './tensor-rows';
import { readTexts, textOptions } from './text-features';
import { Values } from './values';

export const generateCommand: Command = {
  name: 'generate',
  summary: 'draw pictures of a class, or of a text',
  usage: '(--model DIR | --tokenizer DIR --ar DIR) --class LIST|--text-features FILE --out FILE|DIR',
  options: {
    ...familyOptions,
    class: {
      type: 'string',
      value: 'LIST',
      repeatable: true,
      help: 'class numbers (3 or 3,7 or 0-9), or class names of the bundle (bag,dress); see inspect',
    },
    ...textOptions,
    count: { type: 'string', value: 'N', help: 'pictures of each class or text (default 1)' },
    seed: { type: 'string', value: 'S', help: 'seed of the first picture; picture i uses S + i (default 0)' },
    cfg: {
      type: 'string',
      value: 'X',
      help: 'guidance scale; none is 1, of VAR and FlexVAR 0 (default: that of the card, the family, or 1.5)',
    },
    ...guidanceOptions,
    temperature: { type: 'string', value: 'X', help: 'above 0 (default 1)' },
    'top-k': {
      type: 'string',
      value: 'N',
      help: 'draw among the N most likely tokens, 0 for all (default: as the family does, else all)',
    },
    'top-p': {
      type: 'string',
      value: 'X',
      help: 'draw among the most likely tokens of total probability X (default as above, else 1)',
    },
    greedy: { type: 'boolean', help: 'always take the most likely token' },
    tokens: { type: 'string', value: 'N', help: 'stop after N tokens: a coarser, smaller picture' },
    progressive: {
      type: 'boolean',
      help: 'draw a strip of all previews of each picture: coarse to fine, or row by row',
    },
    grid: { type: 'boolean', help: 'put all pictures into one file, one row per class' },
    ...pictureSizeOptions,
    ...scaleOption,
    noise: {
      type: 'string',
      value: 'FILE',
      help: 'float32 [B, N, V] Exp(1) draws instead of the seed (.npy)',
    },
    'save-tokens': { type: 'string', value: 'FILE', help: 'also write the tokens, int32 [B, n] (.npy)' },
    out: { type: 'string', value: 'OUT', help: 'a .png file, or a folder' },
    ...dtypeOptions,
    ...deviceOptions,
    ...workOptions,
  },
  examples: [
    'generate --model @detailflow/model-fashion-32 --class 9 --out boot.png',
    'generate --model @detailflow/model-fashion-32 --class 0-9 --count 4 --grid --scale 4 --out grid.png',
    'generate --model @detailflow/model-fashion-32 --class "bag,ankle boot" --progressive --out pictures/',
    'generate --model hf:ORG/NAME --class 0-999 --count 50 --queue redis://10.0.0.1 --out pictures/',
  ],
  async run(invocation) {
    const { signal, progress, positionals } = invocation;
    const values = new Values(invocation);
    if (positionals.length > 0) throw new UsageError(`"${positionals[0]}" is not expected here`);
    const count = values.whole('count', { least: 1, most: MOST_PICTURES }) ?? 1;
    const seed = values.whole('seed', { most: LARGEST_SEED }) ?? 0;
    const out = values.required('out');
    const single = (await pictureTarget(out)) === 'file';
    const grid = values.flag('grid');
    if (grid && !single) throw new UsageError('--grid makes one file: give --out FILE.png');
    const saveTokens = values.text('save-tokens');
    if (saveTokens !== undefined && !hasExtension(saveTokens, '.npy')) {
      throw new UsageError(`--save-tokens "${saveTokens}" must end in .npy`);
    }
    const scale = pictureScale(values);
    const progressive = values.flag('progressive');
    const settings = {
      temperature: values.number('temperature'),
      topK: values.whole('top-k'),
      topP: values.number('top-p', { least: 0, most: 1 }),
      greedy: values.flag('greedy'),
    };
    if (settings.temperature !== undefined && settings.temperature <= 0) {
      throw new UsageError(`--temperature ${settings.temperature}: give a number above 0`);
    }

    const given = values.number('cfg', { least: 0 });
    if (values.text('queue') !== undefined) {
      const not = ['progressive', 'noise', 'cfg-interval'].find(
        (name) => values.flag(name) || values.text(name) !== undefined,
      );
      if (not !== undefined)
        throw new UsageError(`--${not} is for pictures that are drawn here, without --queue`);
    }

    return withModel(invocation, 'both', async (opened, start) => {
      const { ar, card, tokenizer } = opened;
      const sizes = pictureSize(values, opened);
      if (progressive && (sizes.size ?? sizes.evalSize) !== undefined) {
        throw new UsageError(
          '--progressive shows every preview at its own size: leave out --size and --eval-size',
        );
      }
      const side = sizes.evalSize ?? sizes.size ?? longestSide(opened);
      if (!ar) {
        throw new DetailFlowError(
          'unsupported',
          'this model has no AR part: it can encode and decode, not generate',
        );
      }
      const { tokens: all, schedule } = ar;
      checkGuidance(values, opened);
      const tokens = values.whole('tokens', { least: 1, most: all }) ?? all;
      const conditions = await conditionsOf(values, ar, card?.classNames);
      const jobs = listJobs(conditions, { count, seed });
      const what = ar.text ? 'text' : 'class';
      if (ar.text && values.text('queue') !== undefined)
        throw new UsageError('--queue draws for classes; a model that draws for texts draws here');
      if (single && !grid && jobs.length > 1) {
        throw new UsageError(`${jobs.length} pictures do not go into ${out}: add --grid, or give a folder`);
      }
      const last = stepAt(schedule, tokens - 1);
      const tokensPerImage = last.position + last.count;
      const isShown = previewRule(tokenizer);
      const ends = scheduleSteps(schedule.slice(0, last.index + 1)).map((one) => one.position + one.count);
      const cells = (grid ? jobs.length : 1) * (progressive ? ends.filter(isShown).length : 1);
      requireSheetFits(cells, side, scale);
      const noiseFile = values.text('noise');
      const noise = noiseFile === undefined ? undefined : await readNoise(noiseFile);
      if (noise && noise.dims[0] !== jobs.length) {
        throw new UsageError(
          `--noise holds draws for ${noise.dims[0]} pictures, ${jobs.length} are to be drawn`,
        );
      }

      const queue = await openQueue(invocation, values);
      try {
        const model = await start();
        const cfg = given ?? model.cfg;
        const started = performance.now();
        const sheet: Picture[] = [];
        const files: string[] = [];
        const codes: Tensor<'int32'>[] = [];
        const draw = async (batch: readonly PictureJob[]): Promise<DrawnPictures> => {
          const steps = drawPictures(model, batch, {
            ...settings,
            ...{ cfg, tokens, signal, guidance: guidanceOf(values, model) },
            noise: noise && sliceRows(noise, batch[0].index, batch.length),
          });
          const previews: Picture[][] = batch.map(() => []);
          let known = 0;
          for await (const step of steps) {
            progress.advance(batch.length * (step.count - known));
            known = step.count;
            const isLast = known === step.total;
            if ((progressive && isShown(known)) || isLast) {
              const pixels = resizedForEvaluation(
                await step.pixels({ size: isLast ? sizes.size : undefined }),
                sizes.evalSize,
              );
              for (const [i, shown] of previews.entries()) shown.push(pictureFromPixels(pixels, i));
            }
            if (isLast) {
              const pictures = previews.map((shown) => (progressive ? stripPicture(shown) : shown[0]));
              return { pictures, tokens: saveTokens === undefined ? undefined : await step.tokens() };
            }
          }
          throw new DetailFlowError('runtime', 'the sampler made no step');
        };
        const elsewhere =
          queue &&
          (await drawElsewhere(
            queue,
            {
              ...{ ...settings, labels: jobs.filter((_, i) => i % count === 0).map(({ label }) => label) },
              ...{ ...sizes, count, seed, cfg, tokens, batch: BATCH },
              guidance: guidanceName(values),
              interval: values.whole('cfg-interval'),
            },
            {
              model: await modelIdentity(values, opened),
              hints: modelHints(invocation),
              title: `${jobs.length} pictures of ${values.text('model') ?? values.text('ar')}`,
            },
          ));
        progress.start(jobs.length * tokensPerImage, 'tokens');
        for (const batch of chunks(jobs, BATCH)) {
          const drawn = elsewhere ? await elsewhere.draw(batch) : await draw(batch);
          if (elsewhere) progress.advance(batch.length * tokensPerImage);
          if (drawn.tokens && saveTokens !== undefined) codes.push(drawn.tokens);
          if (single) sheet.push(...drawn.pictures);
          else {
            for (const [i, { index, label, seed }] of batch.entries()) {
              signal.throwIfAborted();
              const file = path.join(
                out,
                `${String(index).padStart(4, '0')}-${what}${label}-seed${seed}.png`,
              );
              await writePicture(file, drawn.pictures[i], scale);
              files.push(file);
            }
          }
        }
        progress.stop();
        await elsewhere?.finish();
        const seconds = (performance.now() - started) / 1000;
        if (single) {
          const columns = progressive ? 1 : count;
          await writePicture(out, grid ? gridPicture(sheet, { columns }) : sheet[0], scale);
        }
        if (saveTokens !== undefined) await writeTensor(saveTokens, joinRows(codes));
        return {
          lines: [
            `${jobs.length} ${jobs.length === 1 ? 'picture' : 'pictures'} in ${seconds.toFixed(2)} s: ${out}`,
            ...(queue ? machineLines(queue) : []),
          ],
          json: {
            out,
            seconds,
            cfg,
            device: queue ? 'queue' : model.backend.name,
            ...(queue && { machines: queue.machines }),
            tokensPerImage,
            ...(saveTokens !== undefined && { tokens: saveTokens }),
            images: jobs.map(({ label, seed }, i) => ({
              file: single ? out : files[i],
              ...(ar.text ? { text: label } : { class: label, name: card?.classNames?.[label] }),
              seed,
            })),
          },
        };
      } catch (error) {
        if (!wasInterrupted(error, signal)) throw error;
        throw new InterruptedError(await leftLines(queue, values), { cause: error });
      } finally {
        await queue?.close();
      }
    });
  },
};

const MOST_PICTURES = 1_000_000;
const LARGEST_SEED = Number.MAX_SAFE_INTEGER - MOST_PICTURES;

/** Whether a preview of so many tokens is worth a place on the strip: of rows only where they are complete. */
function previewRule({ previews, tokens }: FamilyModel['tokenizer']): (known: number) => boolean {
  const side = Math.round(Math.sqrt(tokens));
  return (known) => previews !== 'rows' || known % side === 0 || known === tokens;
}

/**
 * What is to be drawn: classes, or texts where the model draws for texts.
 * @throws UsageError, DetailFlowError
 */
async function conditionsOf(
  values: Values,
  { classes, text, file }: TokenModelHalf,
  names: readonly string[] | undefined,
): Promise<readonly Condition[]> {
  const list = values.text('class');
  if (!text) {
    if (values.text('text-features') !== undefined) {
      throw new UsageError(`--text-features: this model (${file}) draws for classes, give --class`);
    }
    return classLabels(list ?? values.required('class'), classes, names);
  }
  if (list !== undefined) {
    throw new UsageError(`--class: this model (${file}) draws for texts, give --text-features`);
  }
  const texts = await readTexts(values, text);
  if (texts) return texts;
  throw new UsageError(
    `a text model without features: ${file} draws for texts; give --text-features FILE with features [B, T, ${text.width}] of its text encoder`,
  );
}

/** Condition by condition, `count` pictures each; picture i has seed + i. */
function listJobs(
  conditions: readonly Condition[],
  { count, seed }: { readonly count: number; readonly seed: number },
): PictureJob[] {
  const total = conditions.length * count;
  if (total > MOST_PICTURES)
    throw new UsageError(`${total} pictures are too many at once; the limit is ${MOST_PICTURES}`);
  return Array.from({ length: total }, (_, index) => {
    const number = Math.floor(index / count);
    const condition = conditions[number];
    const job = { index, seed: seed + index };
    return typeof condition === 'number'
      ? { ...job, label: condition }
      : { ...job, label: number, condition };
  });
}
