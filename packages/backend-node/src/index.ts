export { createNodeBackend, type NodeBackendOptions } from './create-node-backend';
export type { NodeDevice } from './protocol';
