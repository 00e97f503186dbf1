export { type HubAddress, hubAddressText, isHubAddress, parseHubAddress } from './address';
export type { HubProgress, HubSettings } from './hub-options';
export { openHubInPage, type PageHubOptions } from './page-hub';
