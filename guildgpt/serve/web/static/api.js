// Asking the server: JSON there and back, streams of events, and failures in words.

/** What the server refused, or could not do: `message` is for the person, `status` 0 where it was
 *  not reached. */
export class Refused extends Error {
  constructor(message, status, code) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

async function request(method, path, body, signal) {
  let response;
  try {
    response = await fetch(`/api${path}`, {
      method,
      signal,
      headers: method === "GET" ? {} : { "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("The server cannot be reached. Is it still running?", 0, "unreached");
  }
  if (response.ok) return response;
  if (response.status === 401) {
    const here = location.pathname;
    location.assign(here === "/" ? "/join" : `/join?to=${encodeURIComponent(here)}`);
  }
  throw await refusal(response);
}

async function refusal(response) {
  try {
    const { error } = await response.json();
    const wait = response.headers.get("Retry-After");
    const text = wait ? `${error.message} Try again in ${wait} seconds.` : error.message;
    return new Refused(sentence(text), response.status, error.code);
  } catch {
    return new Refused(`The server answered with ${response.status}.`, response.status, null);
  }
}

/** A message as a sentence: with a capital and a full stop. */
export function sentence(text) {
  const said = text.trim();
  const begun = said.charAt(0).toUpperCase() + said.slice(1);
  return /[.!?…]$/.test(begun) ? begun : `${begun}.`;
}

/** Ask for what is at a path below /api. */
export const get = async (path, signal) => (await request("GET", path, undefined, signal)).json();

/** Have something done there. */
export const send = async (method, path, body = {}) => (await request(method, path, body)).json();

/** Have something done that is answered in events: `on[name](data)` is called for each as it comes.
 *  Ends with the stream; aborting `signal` ends it, and throws an AbortError. */
export async function stream(path, body, { signal, on }) {
  const response = await request("POST", path, body, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    let piece;
    try {
      piece = await reader.read();
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Refused("The connection broke off.", 0, "broken");
    }
    if (piece.done) return;
    const events = (rest + piece.value).split("\n\n");
    rest = events.pop();
    for (const event of events) heard(event, on);
  }
}

function heard(event, on) {
  let name = "message";
  const data = [];
  for (const line of event.split("\n")) {
    if (line.startsWith("event:")) name = line.slice(6).trim();
    else if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
  }
  if (data.length && on[name]) on[name](JSON.parse(data.join("\n")));
}
