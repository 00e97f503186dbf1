export { type NodeHubSettings, nodeHubSettings } from './environment';
export { HubFolder, type OpenHubOptions, openHub } from './hub-folder';
