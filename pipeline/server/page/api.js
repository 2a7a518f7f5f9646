// Questions to the service over HTTP. Every refusal carries its cause and its fix.

/** A refusal of the service, or no answer at all. */
export class ApiError extends Error {
  /**
   * @param {string} cause what is wrong
   * @param {string} fix what to do about it
   * @param {number} status HTTP status; 0: no answer
   * @param {string | null} path of the key that is wrong, in the experiment
   */
  constructor(cause, fix = "", status = 0, path = null) {
    super(fix ? `${cause}: ${fix}` : cause);
    this.reason = cause;
    this.fix = fix;
    this.status = status;
    this.path = path;
  }
}

const LOCKED_OUT = [
  "this browser is not let in",
  "open the whole address, with its token, that `livephase serve` printed",
];

/** @param {Response} response */
async function refusal(response) {
  if (response.status === 401) {
    return new ApiError(LOCKED_OUT[0], LOCKED_OUT[1], 401);
  }
  try {
    const { error } = await response.json();
    return new ApiError(error.cause, error.fix, response.status, error.path ?? null);
  } catch {
    return new ApiError(`the service answered ${response.status}`, "its log says why", response.status);
  }
}

/**
 * @param {string} path
 * @param {RequestInit} [options]
 */
async function request(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new ApiError("the service does not answer", "it may be starting again");
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

/** @param {string} path @returns {Promise<any>} */
export async function get(path) {
  return (await request(path)).json();
}

/** @param {string} path @param {object} [body] @returns {Promise<any>} */
export async function post(path, body = {}) {
  const response = await request(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  return response.headers.get("Content-Type")?.includes("json") ? response.json() : null;
}

/** @param {string} path @param {AbortSignal} [signal] */
export async function getBytes(path, signal) {
  return (await request(path, { signal })).arrayBuffer();
}

/** Whether there is something at an address. @param {string} path */
export async function exists(path) {
  try {
    return (await fetch(path)).ok;
  } catch {
    return false;
  }
}

/** Address of a part of a run. @param {string} name */
export function runUrl(name) {
  return `/api/runs/${encodeURIComponent(name)}`;
}
