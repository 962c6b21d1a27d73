// What is asked of the server.

/** An answer that is an error; `status` is HTTP's. */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function ask(path, body) {
  const token = sessionStorage.getItem("token");
  let response;
  try {
    response = await fetch(path, {
      method: body ? "POST" : "GET",
      headers: token ? { Authorization: `Bearer ${token}` } : {},
      body: body && JSON.stringify(body),
    });
  } catch {
    throw new ApiError(0, "The server does not answer.");
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new ApiError(response.status, answer.error ?? `The server answers ${response.status}.`);
  return answer;
}

/** The models: `{name, signatures, fills_gaps}`. */
export async function listModels() {
  return (await ask("/v1/models")).models;
}

const known = new Map();

/** The candidates, `{text, score}`, of each gap of a text; what was asked before is not asked again. */
export function fillGaps(model, text) {
  const key = `${model}\n${text}`;
  if (!known.has(key)) {
    const asked = ask(`/v1/models/${encodeURIComponent(model)}:fillGaps`, { texts: [text], top_k: 9 });
    known.set(key, asked.then((answer) => answer.texts[0].gaps.map((gap) => gap.candidates)));
    known.get(key).catch(() => known.delete(key));
    if (known.size > 500) known.delete(known.keys().next().value);
  }
  return known.get(key);
}

/** The words of a text with their tags: `[[word, tag], ...]`. */
export async function tagWords(model, text) {
  const path = `/v1/models/${encodeURIComponent(model)}:predict`;
  const [{ words, tags }] = (await ask(path, { signature_name: "tag", instances: [text] })).predictions;
  // Empty words are padding.
  return words.map((word, index) => [word, tags[index]]).filter(([word]) => word);
}
