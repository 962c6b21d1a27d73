// The page: lists the models, and shows texts side by side.

import { listModels } from "./api.js";
import { Panel } from "./panel.js";

const at = (id) => document.getElementById(id);
const models = { filling: "", tagging: null };

function addPanel(state, after) {
  const panel = new Panel(at("panel").content.firstElementChild.cloneNode(true), models, {
    onCopy: (copied) => addPanel(copied, panel),
    onClose: () => at("panels").childElementCount === 0 && addPanel(),
    onError: report,
  });
  if (after) after.element.after(panel.element);
  else at("panels").append(panel.element);
  panel.begin(state);
}

function report(error) {
  at("token").hidden = error?.status !== 401;
  at("message").textContent = error?.message ?? "";
}

async function begin() {
  const found = await listModels();
  report(null);
  const filling = found.filter((model) => model.fills_gaps);
  models.tagging = found.find((model) => model.signatures.includes("tag"))?.name ?? null;
  at("model").replaceChildren(...filling.map(({ name }) => new Option(name)));
  models.filling = at("model").value;
  at("choice").hidden = filling.length < 2;
  if (!filling.length) report({ message: "None of the models served here fills gaps. Export one again." });
  if (!at("panels").childElementCount) addPanel();
}

at("model").addEventListener("change", () => {
  models.filling = at("model").value;
});
at("new-text").addEventListener("click", () => addPanel());
at("token").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", event.target.querySelector("input").value);
  begin().catch(report);
});
begin().catch(report);
