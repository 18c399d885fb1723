// What every view asks the server with: the API, /api/v1, and nothing else.
const ROOT = "/api/v1";

// What went wrong, in a sentence that the server said.
export class Problem extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

// An address under the API. Values of `given` that are undefined or null are left out; lists stand several times.
export function url(path, given = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(given)) {
    for (const each of Array.isArray(value) ? value : [value]) {
      if (each !== undefined && each !== null) query.append(name, each);
    }
  }
  const said = query.toString();
  return ROOT + path + (said ? `?${said}` : "");
}

async function ask(path, given, options) {
  let answer;
  try {
    answer = await fetch(url(path, given), options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The server does not answer. Is imagier serve still running?", 0);
  }
  if (answer.ok) return answer.status === 204 ? null : answer;
  if (answer.status === 401) location.assign("/sign-in");
  let why = `The server answered ${answer.status}.`;
  try {
    why = (await answer.json()).detail ?? why;
  } catch {
    // an answer without a sentence: the status says it
  }
  throw new Problem(why, answer.status);
}

export const get = async (path, given, signal) => (await ask(path, given, { signal })).json();

// POST, PUT, DELETE: JSON, unless `body` is a form or a blob.
export async function send(method, path, body, given, signal) {
  const raw = body === undefined || body instanceof FormData || body instanceof Blob;
  const headers = raw ? {} : { "content-type": "application/json" };
  const answer = await ask(path, given, { method, headers, signal, body: raw ? body : JSON.stringify(body) });
  return answer === null || answer.headers.get("content-type") !== "application/json" ? answer : answer.json();
}

// Does it; what goes wrong is put into the ref `problem`, and while it lasts the ref `busy` is true, where there is one.
export async function attempt(doing, problem, busy) {
  problem.value = "";
  if (busy) busy.value = true;
  try {
    return await doing();
  } catch (error) {
    problem.value = error.message;
  } finally {
    if (busy) busy.value = false;
  }
}

export const thumbnail = (id, base = "") => `${ROOT}${base}/items/${id}/thumbnail`;

// ---------------------------------------------------------------- how things are said

export const count = (n, one, many = one + "s") => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
export const words = (name) => name.replaceAll("_", " ");

// A value for a person: few digits, yes and no, and a dash for none.
export function said(value) {
  if (value === null || value === undefined || value === "") return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number") return Number.isInteger(value) || Math.abs(value) >= 1000 ? Math.round(value).toLocaleString("en") : String(+value.toPrecision(4));
  if (Array.isArray(value)) return value.map(said).join(", ") || "–";
  return String(value);
}

// Okabe and Ito's colours, told apart by those who see few; then turned hues.
const OKABE = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8a900", "#7b5cd6"];
export const colour = (at) => (at < OKABE.length ? OKABE[at] : `hsl(${(at * 137.508) % 360} 62% ${at % 2 ? 42 : 55}%)`);
export const GREY = "#9a9fa6";
export const groupColour = (group) => (group === null || group < 0 ? GREY : colour(group));
