// The page: lists the models, and shows texts side by side.

import { listModels } from "./api.js";
import { Panel } from "./panel.js";
import { follow, load } from "./store.js";

const at = (id) => document.getElementById(id);
const models = { filling: "", tagging: null };
const panels = new Set();

function addPanel(state, after, id) {
  const panel = new Panel(at("panel").content.firstElementChild.cloneNode(true), models, {
    onCopy: (copied) => addPanel(copied, panel),
    onClose: () => closePanel(panel),
    onError: report,
  });
  panels.add(panel);
  if (after) after.element.after(panel.element);
  else at("panels").append(panel.element);
  panel.begin(state, id);
  return panel;
}

/** Remove a panel, and offer to bring it back as it was. */
function closePanel(panel) {
  const next = panel.element.nextElementSibling;
  panel.element.remove();
  panels.delete(panel);
  const only = panels.size ? null : addPanel();
  if (!panel.state.text) return;
  report({ message: "The text is closed. " });
  const back = Object.assign(document.createElement("button"), { type: "button", id: "reopen", textContent: "Open it again" });
  back.addEventListener("click", () => {
    if (only && !only.state.text) only.element.remove(), panels.delete(only);
    at("panels").insertBefore(panel.element, next?.isConnected ? next : null);
    panels.add(panel);
    panel.keep();
    report(null);
  });
  at("message").append(back);
}

function report(error) {
  at("token").hidden = error?.status !== 401;
  at("message").textContent = error?.message ?? "";
}

/** Say which models answer, and what is known of them. */
function describe() {
  const told = [models.filling, models.tagging].filter((name, index, all) => name && all.indexOf(name) === index);
  const about = (name) => {
    const known = models.about[name] ?? "";
    return known.startsWith(`${name}, `) ? known : [name, known].filter(Boolean).join(": ");
  };
  at("about").textContent = told.map(about).join(" · ");
}

async function begin() {
  const found = await listModels();
  report(null);
  const filling = found.filter((model) => model.fills_gaps);
  models.tagging = found.find((model) => model.signatures.includes("tag"))?.name ?? null;
  at("model").replaceChildren(...filling.map(({ name }) => new Option(name)));
  models.about = Object.fromEntries(found.map(({ name, description }) => [name, description]));
  models.filling = at("model").value;
  at("choice").hidden = filling.length < 2;
  if (!filling.length) report({ message: "None of the models served here fills gaps. Export one again." });
  describe();
  if (panels.size) return;
  for (const [id, state] of Object.entries(load())) addPanel(state, null, id);
  if (!panels.size) addPanel();
}

at("model").addEventListener("change", () => {
  models.filling = at("model").value;
  describe();
});
at("new-text").addEventListener("click", () => addPanel());
at("example").addEventListener("click", () => {
  const empty = [...panels].find((panel) => !panel.state.text) ?? addPanel();
  empty.showExample();
});
follow((id, state) => [...panels].find((panel) => panel.id === id)?.receive(state));
addEventListener("beforeunload", (event) => {
  if ([...panels].some((panel) => panel.isUnsaved)) event.preventDefault();
});
at("token").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", event.target.querySelector("input").value);
  begin().catch(report);
});
begin().catch(report);
