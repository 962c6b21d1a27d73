// One text: editing, its gaps and their candidates, undo, and its words.

import { fillGap, tagWords, transliterate } from "./api.js";
import { download, toConjectures, toConllu, toTei } from "./output.js";
import { save } from "./store.js";
import { coloured, meaning } from "./tags.js";
import {
  adoptForeign, around, blocks, edit, fill, findForeign, findGaps, findMarkup, lacksTibetan, reopen, withoutMarkup,
} from "./text.js";

// Typed changes within this many milliseconds are undone together.
const PAUSE = 1000;
// Milliseconds without a change after which a long text is laid out again.
const DELAY = 150;

const EXAMPLE = "འདི་སྐད་བདག་གིས་ཐོས་པ་[GAP:1-2]་གཅིག་ན། བཅོམ་ལྡན་[GAP:1]་རྒྱལ་པོའི་ཁབ་ན་བཞུགས་ཏེ།";

function make(tag, className, text = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

export class Panel {
  constructor(element, models, { onCopy, onClose, onError }) {
    this.element = element;
    this.models = models;
    this.onError = onError;
    this.find = (selector) => element.querySelector(selector);
    this.area = this.find("textarea");
    this.reading = this.find(".reading");
    this.listen(onCopy, onClose);
  }

  /** Show the first state, `{text, fills, signs}`; `id` is its name among the texts that the browser keeps. */
  begin(state = { text: "", fills: [] }, id = null) {
    this.id = id ?? `${Date.now()}-${Math.random()}`;
    this.isUnsaved = false;
    this.states = [state];
    this.place = 0;
    this.typed = 0;
    this.find(".tagging").hidden = !this.models.tagging;
    this.find(".take [value=words]").disabled = !this.models.tagging;
    this.show();
    if (!id) this.keep();
    this.area.focus({ preventScroll: true });
  }

  /** Have the browser keep the text. */
  keep() {
    this.isUnsaved = this.state.text !== "";
    if (!save(this.id, this.state)) {
      this.onError({ message: "This browser cannot keep the text. Download it before you leave." });
    }
  }

  /** Show what another tab has made of the text. */
  receive(state) {
    if (JSON.stringify(state) !== JSON.stringify(this.state)) this.change(state, { keep: false });
  }

  showExample() {
    this.change({ text: EXAMPLE, fills: [] });
    this.gaps()[0].focus();
  }

  get state() {
    return this.states[this.place];
  }

  listen(onCopy, onClose) {
    const on = (selector, event, act) => this.find(selector).addEventListener(event, act);
    on("textarea", "input", () => this.type());
    on(".gap-button", "click", () => this.mark());
    on(".undo", "click", () => this.step(-1));
    on(".redo", "click", () => this.step(1));
    on(".copy", "click", () => onCopy(this.state));
    on(".close", "click", () => {
      this.close();
      save(this.id, null);
      onClose();
    });
    on(".take", "change", () => this.take().catch(this.onError));
    on(".adopt", "click", () => this.change(adoptForeign(this.state, this.find(".length").value)));
    on(".strip", "click", () => this.change(edit(this.state, withoutMarkup(this.state.text))));
    on(".convert", "click", () => this.convert().catch(this.onError));
    on(".tagging input", "change", () => this.show());
    on(".wylie input", "change", () => {
      const gap = this.opened;
      this.close();
      if (gap) this.open(gap);
    });
    on(".reading", "click", (event) => this.click(event));
    for (const event of ["mouseover", "focusin"]) {
      on(".reading", event, ({ target }) => target.closest(".gap") && this.open(target.closest(".gap")));
    }
    this.element.addEventListener("keydown", (event) => this.press(event));
    this.element.addEventListener("focusout", (event) => {
      if (!this.reading.contains(event.relatedTarget) && event.relatedTarget) this.close();
    });
  }

  // === The text and its history ===

  type() {
    const now = Date.now();
    const next = edit(this.state, this.area.value);
    // Letter by letter is one change, until there is a pause.
    const together = now - this.typed < PAUSE && this.place > 0;
    this.states.splice(together ? this.place : this.place + 1, Infinity, next);
    this.place = this.states.length - 1;
    this.typed = now;
    this.keep();
    clearTimeout(this.waiting);
    this.waiting = setTimeout(() => this.show(), DELAY);
  }

  change(state, { keep = true } = {}) {
    this.states.splice(this.place + 1, Infinity, state);
    this.place++;
    this.typed = 0;
    if (keep) this.keep();
    this.show();
  }

  step(by) {
    if (!this.states[this.place + by]) return;
    this.place += by;
    this.typed = 0;
    this.keep();
    this.show();
    // A button that becomes disabled loses the focus, and keys would go nowhere.
    if (document.activeElement !== this.area) this.reading.focus({ preventScroll: true });
  }

  /** Put a gap in place of what is selected in the text. */
  mark() {
    const { selectionStart: start, selectionEnd: end, value } = this.area;
    const gap = this.find(".length").value;
    this.change(edit(this.state, value.slice(0, start) + gap + value.slice(end)));
    this.area.focus();
    this.area.setSelectionRange(start + gap.length, start + gap.length);
  }

  /** Convert the text from Wylie or ACIP. */
  async convert() {
    const [text] = await transliterate([this.state.text], "tibetan");
    this.change(edit(this.state, text));
    this.onError(null);
  }

  show() {
    clearTimeout(this.waiting);
    const { text } = this.state;
    const isHere = this.reading.contains(document.activeElement);
    if (this.area.value !== text) this.area.value = text;
    this.find(".undo").disabled = this.place === 0;
    this.find(".redo").disabled = this.place === this.states.length - 1;
    this.tell(".foreign", findForeign(text));
    this.tell(".markup", findMarkup(text));
    this.find(".latin").hidden = !lacksTibetan(text);
    this.close();
    this.seen?.disconnect();
    const tagged = this.find(".tagging input").checked && !lacksTibetan(text);
    this.find(".legend").hidden = !tagged;
    this.find(".legend").replaceChildren();
    this.reading.replaceChildren(
      ...blocks(this.state).map((parts) => {
        const block = make("p", "block");
        block.append(...parts.map((part) => this.part(part)));
        return block;
      }),
    );
    // The focused element has been replaced.
    if (isHere) this.reading.focus({ preventScroll: true });
    if (tagged) this.tag();
  }

  /** Show a line with some of the marks that it is about, if there are any. */
  tell(selector, marks) {
    this.find(selector).hidden = !marks.length;
    this.find(`${selector} code`).textContent = [...new Set(marks)].slice(0, 4).join(" ");
  }

  part({ kind, text, index, filling }) {
    if (kind === "text") return text;
    const button = make("button", kind, kind === "fill" ? text : "");
    button.type = "button";
    if (kind === "fill") {
      button.title = "Make it a gap again";
      button.filling = filling;
    } else {
      button.append(make("span", "name", text));
      button.dataset.index = index;
      button.setAttribute("aria-expanded", "false");
    }
    return button;
  }

  /** Copy or download the text in the form that was chosen. */
  async take() {
    const form = this.find(".take").value;
    this.find(".take").selectedIndex = 0;
    const { text } = this.state;
    if (form === "copy") await copy(text);
    if (form === "text") download("text.txt", text);
    if (form === "tei") download("text.xml", toTei(this.state, this.models.filling));
    if (form === "conjectures") download("conjectures.tsv", toConjectures(this.state));
    if (form === "words") download("words.conllu", toConllu(await this.tagAll(text)));
    this.isUnsaved = false;
  }

  async tagAll(text) {
    if (lacksTibetan(text)) throw new Error("There is no Tibetan letter in the text.");
    const words = [];
    let place = 0;
    for (const { start, end } of [...findGaps(text), { start: text.length, end: text.length }]) {
      // A line at a time: a sentence ends with its line.
      for (const line of text.slice(place, start).match(/[^\n]*\n|[^\n]+/g) ?? []) {
        if (line.trim()) words.push(...(await tagWords(this.models.tagging, line)));
        if (line.endsWith("\n")) words.push({ word: "\n" });
      }
      if (end > start) words.push({ word: text.slice(start, end), tag: "X" });
      place = end;
    }
    return words;
  }

  // === Candidates ===

  async open(gap) {
    if (this.opened === gap) return;
    this.close();
    this.opened = gap;
    gap.setAttribute("aria-expanded", "true");
    this.list = make("ol", "candidates");
    this.list.append(make("li", "note", "…"));
    gap.closest(".block").after(this.list);
    this.put(gap);
    const list = this.list;
    this.asking = new AbortController();
    const { signal } = this.asking;
    try {
      const candidates = await this.candidates(Number(gap.dataset.index), signal);
      if (signal.aborted) return; // looked away
      this.onError(null);
      const items = candidates.map((candidate) => this.item(candidate));
      list.replaceChildren(...(items.length ? items : [make("li", "note", "No whole syllables fit here.")]));
    } catch (error) {
      if (signal.aborted) return;
      if (error.status === 401) this.onError(error);
      list.replaceChildren(make("li", "note error", error.message));
    }
    this.put(gap);
  }

  async candidates(index, signal) {
    const { text, number } = around(this.state.text, findGaps(this.state.text), index);
    const found = await fillGap(this.models.filling, text, number, signal);
    if (!this.find(".wylie input").checked || !found.length) return found;
    const wylie = await transliterate(found.map((each) => each.text), "wylie", signal);
    return found.map((each, rank) => ({ ...each, wylie: wylie[rank] }));
  }

  item({ text, score, cert, wylie }) {
    const button = make("button", "candidate");
    button.type = "button";
    button.title = "How well it fits, from 0 to 1. Such scores compare fillings; they are no probabilities.";
    button.filling = text;
    button.source = { score, cert, model: this.models.filling };
    const bar = make("span", "bar");
    bar.append(make("span", "sure"));
    bar.firstChild.style.width = `${100 * score}%`;
    button.append(make("span", "syllables", text), bar, make("span", "score", score < 0.01 ? "<0.01" : score.toFixed(2)));
    if (wylie) button.append(make("span", "latin-letters", wylie));
    const item = make("li", "");
    item.append(button);
    return item;
  }

  /** Put the list under its gap, as far as the panel is wide. */
  put(gap) {
    const frame = this.reading.getBoundingClientRect();
    const box = gap.getBoundingClientRect();
    const left = Math.min(box.left - frame.left, frame.width - this.list.offsetWidth);
    this.list.style.left = `${Math.max(0, left)}px`;
    this.list.style.top = `${box.bottom - frame.top}px`;
  }

  close() {
    this.asking?.abort();
    this.list?.remove();
    this.opened?.setAttribute("aria-expanded", "false");
    this.list = this.opened = null;
  }

  accept({ filling, source }) {
    const index = Number(this.opened.dataset.index);
    this.change(fill(this.state, findGaps(this.state.text)[index], filling, source));
    // On to the next gap, or the last one.
    const rest = this.gaps();
    (rest[Math.min(index, rest.length - 1)] ?? this.find(".undo")).focus();
  }

  reopen(filling) {
    this.change(reopen(this.state, filling));
    const index = findGaps(this.state.text).findIndex((gap) => gap.start === filling.start);
    this.gaps()[index]?.focus();
  }

  gaps() {
    return [...this.reading.querySelectorAll(".gap")];
  }

  // === Mouse and keyboard ===

  click(event) {
    const button = event.target.closest("button");
    if (!button) this.close();
    else if (button.matches(".candidate")) this.accept(button);
    else if (button.matches(".fill")) this.reopen(button.filling);
    else this.open(button); // Safari does not focus what is clicked
  }

  press(event) {
    const act = this.meaning(event);
    if (!act) return;
    event.preventDefault();
    act();
  }

  meaning(event) {
    const key = event.key.toLowerCase();
    // By its place: on a Mac, Alt makes another letter of it.
    if (event.altKey) return event.code === "KeyG" ? () => this.mark() : null;
    if (!event.ctrlKey && !event.metaKey) return this.meaningAtGap(event.key, event.target);
    if (key === "z") return () => this.step(event.shiftKey ? 1 : -1);
    if (key === "y") return () => this.step(1);
    if (key !== "enter") return null;
    return () => {
      this.show();
      this.gaps()[0]?.focus();
    };
  }

  /** What a key does on a gap and in its list. */
  meaningAtGap(key, target) {
    if (!this.opened || !this.reading.contains(target)) return null;
    const candidates = [...this.list.querySelectorAll(".candidate")];
    if (candidates[key - 1]) return () => candidates[key - 1].click();
    const chosen = candidates.indexOf(target);
    const gaps = this.gaps();
    const go = (by) => () => gaps[gaps.indexOf(this.opened) + by]?.focus();
    return {
      ArrowDown: () => candidates[Math.min(chosen + 1, candidates.length - 1)]?.focus(),
      ArrowUp: () => (candidates[chosen - 1] ?? this.opened).focus(),
      ArrowLeft: go(-1),
      ArrowRight: go(1),
      Escape: () => {
        this.opened.focus();
        this.close();
      },
    }[key];
  }

  // === Words ===

  /** Show the words and their tags, block by block as they come into sight. */
  tag() {
    this.seen = new IntersectionObserver((entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        this.seen.unobserve(target);
        this.tagBlock(target).catch(this.onError);
      }
    });
    for (const block of this.reading.children) this.seen.observe(block);
  }

  async tagBlock(block) {
    // Gaps stay as they are; what is between them is tagged, fillings with what is around them.
    const runs = [];
    for (const node of block.childNodes) {
      if (node.className === "gap") runs.push(node);
      else if (typeof runs.at(-1) === "string") runs.push(runs.pop() + node.textContent);
      else runs.push(node.textContent);
    }
    const tag = (run) => (typeof run === "string" && run.trim() ? tagWords(this.models.tagging, run) : run);
    const tagged = (await Promise.all(runs.map(tag))).flat();
    if (!block.isConnected) return;
    block.replaceChildren(...tagged.map((each) => (each.word ? this.word(each) : each)));
    const legend = this.find(".legend");
    const told = new Set([...legend.children].map((each) => each.textContent.trim()));
    const fresh = [...new Set(tagged.map((each) => each.tag))].filter((tag) => tag && !told.has(tag));
    for (const tag of fresh) legend.append(coloured(make("span", "word", tag), tag), ` ${meaning(tag)} `);
  }

  word({ word, tag, probability }) {
    const shown = coloured(make("span", "word", word), tag);
    shown.title = [tag, meaning(tag), percent(probability)].filter(Boolean).join(", ");
    shown.append(make("span", "tag", tag));
    return shown;
  }
}

async function copy(text) {
  // The clipboard is closed to pages without a certificate.
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = document.body.appendChild(make("textarea", ""));
  area.value = text;
  area.select();
  document.execCommand("copy");
  area.remove();
}

function percent(score) {
  return score < 0.01 ? "<1%" : `${Math.round(100 * score)}%`;
}
