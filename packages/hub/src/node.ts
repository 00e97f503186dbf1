export { type NodeHubSettings, nodeHubSettings } from './environment';
export { HubFolder, type OpenHubOptions, openHub } from './hub-folder';
export type { HubProgress } from './hub-options';
export { type PushedFile, type PushOptions, type PushResult, push } from './push';
export { fetchRemote, isRemote, openRemote, openRemoteFile, remotePath } from './remote';
export { type OneRemoteFile, openUrlFolder } from './url-files';
