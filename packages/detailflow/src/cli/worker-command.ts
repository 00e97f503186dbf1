import { type Command, deviceOptions, UsageError } from './command';
import { modelOptions } from './model-options';
import { codesTask } from './queue/codes-task';
import { evaluationTask } from './queue/evaluation-task';
import { generateTask } from './queue/generate-task';
import { queueAddress, queueOption } from './queue/queue-options';
import { WorkerModels } from './queue/worker-models';
import { showNotice } from './show-notice';
import { Values } from './values';

const { model, tokenizer, ar } = modelOptions;

export const workerCommand: Command = {
  name: 'worker',
  summary: 'compute what generate, eval and train give to a queue, until it is stopped',
  usage: '--queue URL [--results DIR] [--model DIR] [--device D] [--threads N]',
  options: {
    ...queueOption,
    results: {
      type: 'string',
      value: 'DIR',
      help: 'the folder for results that all machines share, as this machine sees it',
    },
    // Names of the hub are fetched when a job needs them.
    model: {
      ...model,
      source: undefined,
      help: 'the model, instead of where jobs say it is; it must have the same content',
    },
    tokenizer: { ...tokenizer, source: undefined, help: 'tokenizer, in the same way' },
    ar: { ...ar, source: undefined, help: 'AR model, in the same way' },
    features: { type: 'string', value: 'FILE', help: 'feature network of evaluations, in the same way' },
    data: { type: 'string', value: 'SOURCE', help: 'images that codes are made of, in the same way' },
    ...deviceOptions,
  },
  examples: [
    'worker --queue redis://10.0.0.1',
    'worker --queue redis://10.0.0.1 --results /mnt/shared/results --device cuda',
    'worker --queue rediss://me@queue.example --model /models/imagenet --threads 4',
  ],
  async run(invocation) {
    const { positionals, signal } = invocation;
    const values = new Values(invocation);
    if (positionals.length > 0) throw new UsageError(`"${positionals[0]}" is not expected here`);
    const device = values.choice('device', ['cpu', 'cuda', 'webgpu', 'auto'] as const);
    const threads = values.whole('threads', { least: 1, most: 1024 });
    const results = values.text('results');
    const address = await queueAddress(values);
    const { runWorker } = await import('@detailflow/queue');
    const models = new WorkerModels(invocation, { device, threads });
    const tasks = [generateTask(models), evaluationTask(models), codesTask(models, invocation)];
    const [generate, evaluation, codes] = tasks;
    try {
      const summary = await runWorker(address, {
        tasks: { generate, 'eval-generation': evaluation, 'train-codes': codes },
        ...{ results, signal },
        onNotice: showNotice,
      });
      const { done, known, failed, givenBack } = summary;
      return {
        lines: [
          `${done} shards computed, ${known} were there already, ${failed} failed, ${givenBack} given back`,
        ],
        json: { ...summary },
      };
    } finally {
      await models.close();
    }
  },
};
