import { DetailFlowError } from '@detailflow/core';
import { isHubAddress } from '@detailflow/hub';
import { type PushedFile, type PushResult, push } from '@detailflow/hub/node';
import { type Command, type Report, UsageError } from './command';
import { showing } from './local-sources';
import { showNotice } from './show-notice';
import { Values } from './values';

export const pushCommand: Command = {
  name: 'push',
  summary: 'put a model, or any folder, on the hub',
  usage: 'FOLDER hf:[datasets/]ORG/NAME[@BRANCH][/INSIDE] [--create [--private]] [--dry-run]',
  options: {
    create: { type: 'boolean', help: 'make the repository, or the branch where the repository is there' },
    private: { type: 'boolean', help: '--create: a repository that only its owner sees' },
    message: { type: 'string', value: 'TEXT', help: 'what the commit says' },
    'dry-run': {
      type: 'boolean',
      help: 'list what would be sent, with sizes; nothing is sent, no server is asked',
    },
  },
  examples: [
    'push runs/mine/bundle hf:me/mine --dry-run',
    'push runs/mine/bundle hf:me/mine --create --private --message "First version"',
    'push runs/mine/bundle hf:me/mine@better --create',
    'push pictures/ hf:datasets/me/pictures',
  ],
  async run(invocation) {
    const { positionals, signal, progress } = invocation;
    const values = new Values(invocation);
    const [folder, address, ...others] = positionals;
    if (folder === undefined || address === undefined)
      throw new UsageError('say which folder, and where it goes: push FOLDER hf:ORG/NAME');
    if (others.length > 0) throw new UsageError(`"${others[0]}" is not expected here`);
    if (isHubAddress(folder) || !isHubAddress(address))
      throw new UsageError('give the folder first, then the address on the hub: push FOLDER hf:ORG/NAME');
    const [create, isPrivate] = [values.flag('create'), values.flag('private')];
    if (isPrivate && !create)
      throw new UsageError('--private says how --create makes the repository: give that, too');
    try {
      const result = await push(folder, address, {
        ...{ create, isPrivate, message: values.text('message'), dryRun: values.flag('dry-run') },
        ...{ signal, onProgress: showing(progress), onNotice: showNotice },
      });
      return report(result);
    } catch (error) {
      // All of it stands on the command line.
      const isMisused = DetailFlowError.isInstance(error) && error.code === 'invalid-argument';
      throw isMisused && error.file === undefined ? new UsageError(error.message) : error;
    } finally {
      progress.stop();
    }
  },
};

function report(result: PushResult): Report {
  const { address, files, leftOut, commit } = result;
  const of = (state: PushedFile['state']) => files.filter((file) => file.state === state);
  const bytes = (list: readonly PushedFile[]) => list.reduce((sum, { size }) => sum + size, 0);
  const [listed, sent, unchanged, ignored] = [of('listed'), of('sent'), of('unchanged'), of('ignored')];
  const count = (list: readonly unknown[]) => `${list.length} file${list.length === 1 ? '' : 's'}`;
  const rows = (list: readonly PushedFile[]) =>
    list.map(({ path, size }) => `  ${sizeText(size).padStart(9)}  ${path}`);
  const done =
    commit === undefined
      ? [`would be sent to ${address}: ${count(listed)}, ${sizeText(bytes(listed))}`, ...rows(listed)]
      : sent.length > 0
        ? [`${address}: commit ${commit}, ${count(sent)}, ${sizeText(bytes(sent))}`, ...rows(sent)]
        : [`${address}: nothing has changed since commit ${commit}`];
  const more = [
    sent.length > 0 && unchanged.length > 0 && `${count(unchanged)} there already`,
    ignored.length > 0 && `${count(ignored)} ignored by its .gitignore`,
    leftOut.length > 0 &&
      `${count(leftOut)} left out (hidden, or no files): ${leftOut.slice(0, 5).join(', ')}`,
  ].filter((line) => line !== false);
  return { lines: [...done, ...more], json: { ...result } };
}

/** "1.2 MB". */
function sizeText(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB'];
  const power = Math.min(units.length - 1, Math.max(0, Math.floor(Math.log10(Math.max(1, bytes)) / 3)));
  return `${(bytes / 1000 ** power).toFixed(power === 0 ? 0 : 1)} ${units[power]}`;
}
