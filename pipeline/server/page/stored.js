// What is stored of a run: which timepoints of which position.

/**
 * First and last stored timepoints of stretches without a gap, of one position.
 * @param {any} run answer of /api/runs/{name}
 * @param {number} position
 * @returns {[number, number][]}
 */
export function stretches(run, position) {
  const { raw, phase } = run?.stored ?? { raw: [], phase: [] };
  // Of a recording that was only reconstructed, the frames are elsewhere.
  return raw[position]?.length ? raw[position] : phase[position] ?? [];
}

/** @param {[number, number][]} stored */
export function lastOf(stored) {
  return stored.length ? stored[stored.length - 1][1] : -1;
}

/**
 * What to begin with: the newest timepoint whose phase is there, or whose frames are where no phase is.
 * @param {any} run @param {number} position
 */
export function newest(run, position) {
  const phase = lastOf(run?.stored?.phase[position] ?? []);
  return phase >= 0 ? phase : lastOf(stretches(run, position));
}

/** The stored timepoint that is nearest; -1 where there is none. @param {[number, number][]} stored @param {number} timepoint */
export function nearest(stored, timepoint) {
  let best = -1;
  for (const [first, last] of stored) {
    const candidate = Math.min(Math.max(timepoint, first), last);
    if (best < 0 || Math.abs(candidate - timepoint) < Math.abs(best - timepoint)) best = candidate;
  }
  return best;
}

/** The next stored timepoint in a direction; the same one at the end. @param {[number, number][]} stored @param {number} timepoint @param {1 | -1} way */
export function next(stored, timepoint, way) {
  const near = nearest(stored, timepoint + way);
  if ((near - timepoint) * way > 0) return near;
  const ahead = way > 0
    ? stored.find(([first]) => first > timepoint)?.[0]
    : stored.findLast(([, last]) => last < timepoint)?.[1];
  return ahead ?? timepoint;
}
