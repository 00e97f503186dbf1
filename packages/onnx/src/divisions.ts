import { type Dim, extent, type Graph, sameDim, subtractDims, type Value } from '@detailflow/core';

/** Slices of one value that follow each other from its first entry to its last: parts of one cut. */
export interface Division {
  readonly axis: number;
  readonly parts: readonly Value[];
  readonly sizes: readonly Dim[];
}

/** The divisions of a graph, by their parts. Cutting once reads once, where each slice would be copied by itself. */
export function divisionsOf(graph: Graph): Map<Value, Division> {
  const slices = new Map<Value, Value[]>();
  for (const node of graph.nodes) {
    if (node.op !== 'slice') continue;
    const [source] = node.inputs;
    slices.set(source, [...(slices.get(source) ?? []), node]);
  }
  const found = new Map<Value, Division>();
  for (const [source, all] of slices) {
    const axis = all[0].attrs.axis as number;
    const parts = chained(all, axis, extent(source, axis));
    if (parts.length < 2) continue;
    const sizes = parts.map(({ attrs }) => subtractDims(attrs.end as Dim, attrs.start as Dim));
    for (const part of parts) found.set(part, { axis, parts, sizes });
  }
  return found;
}

/** All slices in the order in which each begins where the one before it ends; none unless they go from 0 to the end. */
function chained(slices: readonly Value[], axis: number, end: Dim): Value[] {
  const parts: Value[] = [];
  let at: Dim = 0;
  for (const _ of slices) {
    const next = slices.find(({ attrs }) => attrs.axis === axis && sameDim(attrs.start as Dim, at));
    if (!next || parts.includes(next)) return [];
    parts.push(next);
    at = next.attrs.end as Dim;
  }
  return sameDim(at, end) ? parts : [];
}
