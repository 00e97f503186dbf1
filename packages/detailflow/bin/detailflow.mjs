#!/usr/bin/env node
// Committed, so that npm links the command on install, before anything is built.
import '../dist/cli.js';
