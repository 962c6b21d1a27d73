// Requests to the server.

import { parts } from "./text.js";

// Milliseconds over a gap before it is searched, so that a passing mouse starts no search.
const LOOK = 200;
// Every tagger accepts texts of this many characters.
const SHORTEST = 25;

/** An error in an answer; `status` is the HTTP status. */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function ask(path, body, signal) {
  const token = sessionStorage.getItem("token");
  let response;
  try {
    response = await fetch(path, {
      method: body ? "POST" : "GET",
      headers: { ...(body && { "Content-Type": "application/json" }), ...(token && { Authorization: `Bearer ${token}` }) },
      body: body && JSON.stringify(body),
      signal,
    });
  } catch {
    throw new ApiError(0, "The server does not answer.");
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new ApiError(response.status, answer.error ?? `The server answers ${response.status}.`);
  return answer;
}

/** The models: `{name, signatures, fills_gaps, description}`. */
export async function listModels() {
  return (await ask("/v1/models")).models;
}

const known = new Map();

/**
 * The candidates, `{text, score, cert}`, of gap `number` of a text; answers are kept.
 *
 * A search is slow: it starts only if `signal`, of an `AbortController`, has not aborted by then, and ends when it does.
 */
export async function fillGap(model, text, number, signal) {
  const key = `${model}\n${number}\n${text}`;
  if (!known.has(key)) {
    await new Promise((resolve) => setTimeout(resolve, LOOK));
    signal.throwIfAborted();
    const body = { texts: [text], only: [number], top_k: 9 };
    const answer = await ask(`/v1/models/${encodeURIComponent(model)}:fillGaps`, body, signal);
    known.set(key, answer.texts[0].gaps[0].candidates);
    if (known.size > 500) known.delete(known.keys().next().value);
  }
  return known.get(key);
}

/** Texts in another script: `to` is `tibetan`, from Wylie or ACIP, or `wylie`. */
export async function transliterate(texts, to, signal) {
  return (await ask("/v1/transliterate", { texts, to }, signal)).texts;
}

/**
 * The words of a text with their tags: `{word, tag, probability}`.
 *
 * A tagger accepts a limited number of tokens, which only it can count: a text that is too long is sent in shorter parts.
 */
export async function tagWords(model, text, size = 400) {
  const path = `/v1/models/${encodeURIComponent(model)}:predict`;
  let rows;
  try {
    rows = (await ask(path, { signature_name: "tag", instances: parts(text, size) })).predictions;
  } catch (error) {
    if (error.status === 400 && size > SHORTEST) return tagWords(model, text, size / 2);
    throw error;
  }
  return rows.flatMap(({ words, tags, probabilities }) =>
    // Empty words are padding.
    words.map((word, index) => ({ word, tag: tags[index], probability: probabilities[index] })).filter(({ word }) => word),
  );
}
