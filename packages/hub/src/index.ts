export { type HubAddress, hubAddressText, isHubAddress, parseHubAddress } from './address';
export type { HubProgress, HubSettings } from './hub-options';
