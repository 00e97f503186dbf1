export { createReferenceBackend } from './reference-backend';
