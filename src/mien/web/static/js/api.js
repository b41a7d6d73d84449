// Calls of the service's API; every failure becomes one sentence for people.
const TOKEN_KEY = "mien-token";
let token = remembered();

export class ApiError extends Error {
  /** @param {string} message @param {string} kind last part of the problem's type @param {number} status */
  constructor(message, kind, status) {
    super(message);
    this.kind = kind;
    this.status = status;
  }
}

function remembered() {
  try {
    return sessionStorage.getItem(TOKEN_KEY);
  } catch {
    return null; // storage is blocked: the token lasts until the page is left
  }
}

function remember(value) {
  token = value;
  try {
    if (value === null) sessionStorage.removeItem(TOKEN_KEY);
    else sessionStorage.setItem(TOKEN_KEY, value);
  } catch {
    // storage is blocked
  }
}

/** Sentences for problems that people can do something about; others show the server's own detail. */
const WORDS = {
  "too-large": "This file is too large. Save it smaller and try again.",
  busy: "The service is busy right now. Try again in a moment.",
  "rate-limited": "That was too many requests at once. Wait a second and try again.",
  unauthorized: "The access token is missing or wrong.",
  internal: "Something went wrong on the server. The next try starts afresh.",
};

async function failure(response) {
  let problem = {};
  try {
    problem = await response.json();
  } catch {
    // a proxy's page, not the service's answer
  }
  const kind = (problem.type ?? "").split(":").pop() || `status-${response.status}`;
  return new ApiError(WORDS[kind] ?? problem.detail ?? `The server answered ${response.status}.`, kind, response.status);
}

async function call(path, options = {}) {
  const sent = token;
  let response;
  try {
    response = await fetch(path, { ...options, headers: sent ? { Authorization: `Bearer ${sent}` } : {} });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server cannot be reached. Check that it is running.", "unreachable", 0);
  }
  if (response.ok) return response.json();
  const error = await failure(response);
  if (error.kind === "unauthorized" && sent === token && !asking) {
    remember(null);
    askForToken(sent ? error.message : ""); // what is tried next finds the new one
  }
  throw error;
}

function body(blob, name) {
  const form = new FormData();
  form.append("image", blob, name);
  return form;
}

let loading = null;

/** Loaded models, asked for once; where that failed, the next call asks again. */
export function models() {
  loading ??= askForModels().catch((error) => {
    loading = null;
    throw error;
  });
  return loading;
}

/** Asks for the access token first where the service wants one, and again until it is right. */
async function askForModels() {
  for (;;) {
    if (document.body.dataset.needsToken === "true" && !token) await askForToken();
    try {
      return await call("/api/v1/models");
    } catch (error) {
      if (error.kind !== "unauthorized") throw error;
      await asking;
    }
  }
}

/** Result of one picture: {source, width, height, faces, model}. */
export async function analyze(blob, name, { model, detection = "full", signal } = {}) {
  const query = new URLSearchParams({ detection, ...(model && { model }) });
  const results = await call(`/api/v1/analyze?${query}`, { method: "POST", body: body(blob, name), signal });
  return results[0];
}

/** Result of one picture and maps of the evidence in its faces. */
export async function explain(blob, name, { model, method, faces = [0], labels = [], detection = "full", signal } = {}) {
  const query = new URLSearchParams({ method, detection, ...(model && { model }) });
  for (const face of faces) query.append("face", face);
  for (const label of labels) query.append("label", label);
  return call(`/api/v1/explain?${query}`, { method: "POST", body: body(blob, name), signal });
}

let asking = null;

/** Shows the token's field, and why; resolves when a token was entered. */
function askForToken(words = "") {
  const form = document.getElementById("token-form");
  const [field, problem] = [form.querySelector("input"), document.getElementById("token-problem")];
  const tell = (text) => {
    problem.textContent = text;
    problem.hidden = text === "";
    field.setAttribute("aria-invalid", String(text !== ""));
  };
  if (words || !asking) tell(words);
  form.hidden = false;
  field.value = "";
  field.focus();
  asking ??= new Promise((resolve) => {
    form.onsubmit = (event) => {
      event.preventDefault();
      const entered = field.value.trim();
      if (!/^[!-~]+$/.test(entered)) {
        tell("Tokens have letters, digits and signs without spaces or accents. Copy the whole token, not a shortened one.");
        return;
      }
      remember(entered);
      form.hidden = true;
      asking = null;
      resolve();
    };
  });
  return asking;
}
