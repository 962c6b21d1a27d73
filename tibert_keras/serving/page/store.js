// The texts that the browser keeps: they survive a reload, and tabs of the same server show the same ones.

const KEY = "texts";

/** The texts kept: `{id: {text, fills, signs}}`, in their order. */
export function load() {
  try {
    return JSON.parse(localStorage.getItem(KEY)) ?? {};
  } catch {
    return {}; // kept by something else, or nothing may be kept
  }
}

/** Keep a text, or forget it if `state` is null; returns whether that was possible. */
export function save(id, state) {
  const texts = load();
  if (state?.text) texts[id] = state;
  else delete texts[id];
  try {
    localStorage.setItem(KEY, JSON.stringify(texts));
  } catch {
    return false; // no room, or a private window
  }
  return true;
}

/** Call `act(id, state)` for each text that another tab has changed. */
export function follow(act) {
  addEventListener("storage", ({ key }) => {
    if (key === KEY) for (const [id, state] of Object.entries(load())) act(id, state);
  });
}
