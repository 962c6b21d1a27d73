// Texts as files: plain text, TEI, CoNLL-U, and a list of conjectures.

import { UNIVERSAL } from "./tags.js";
import { findGaps } from "./text.js";

// The tags of Universal Dependencies.
const UPOS = new Set(Object.keys(UNIVERSAL).filter((tag) => tag !== "UNK"));
const XML = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };

/** A text with gaps and fillings as TEI P5: `<gap>` for what is missing, `<supplied>` for conjectures. */
export function toTei({ text, fills }, model) {
  const marks = [
    ...findGaps(text).map((gap) => ({ ...gap, make: (mark) => gapElement(mark) })),
    ...fills.map((fill) => ({ ...fill, make: (filling) => suppliedElement(filling, fill) })),
  ].sort((a, b) => a.start - b.start);
  let body = "";
  let place = 0;
  for (const { start, end, make } of marks) {
    if (start < place) continue; // a filling that looks like a gap
    body += escape(text.slice(place, start)) + make(text.slice(start, end));
    place = end;
  }
  body = (body + escape(text.slice(place))).replaceAll("\n", "<lb/>\n");
  return `<?xml version="1.0" encoding="UTF-8"?>
<TEI xmlns="http://www.tei-c.org/ns/1.0">
<teiHeader><fileDesc>
<titleStmt><title>Untitled</title><respStmt xml:id="model"><resp>Conjectures</resp><name>${escape(model)}</name></respStmt></titleStmt>
<publicationStmt><p>Unpublished.</p></publicationStmt>
<sourceDesc><p>Typed or pasted by an editor, with gaps filled by a language model; cert names its score, which is no
probability.</p></sourceDesc>
</fileDesc></teiHeader>
<text xml:lang="bo"><body><p>${body}</p></body></text>
</TEI>
`;
}

// What is legible of a syllable before and after its gap, `ཐོ[?]ས`, or else the length of the gap.
const PARTLY = /^([^\[]*)\[\?\](.*)$/s;
const TEI_GAP = /^<gap(?:\s+[\w:]+="[^"<>&]*")*\s*\/>$/;
const RANGE = /^\[GAP:\s*(\d+)\s*(?:[-\u2010-\u2015\u2212]\s*(\d+)\s*)?(?:no shad)?\s*\]$/;

function gapElement(mark) {
  if (TEI_GAP.test(mark)) return mark;
  const [, begins = "", ends = ""] = PARTLY.exec(mark) ?? [];
  const [, least, most] = RANGE.exec(mark) ?? [];
  const size = most && most !== least ? ` atLeast="${least}" atMost="${most}"` : ` quantity="${least}"`;
  return `${begins}<gap reason="lost"${least ? ` unit="syllable"${size}` : ""}/>${ends}`;
}

function suppliedElement(filling, { gap, cert }) {
  const [, begins = "", ends = ""] = PARTLY.exec(gap) ?? [];
  const inside = filling.slice(begins.length, filling.length - ends.length);
  const sure = cert ? ` cert="${cert}"` : "";
  return `${begins}<supplied reason="lost" resp="#model"${sure}>${escape(inside)}</supplied>${ends}`;
}

// Without control characters and the like, which XML cannot hold.
function escape(text) {
  const sound = text.replace(/[^\t\n\r -\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/gu, "\ufffd");
  return sound.replace(/[&<>"]/g, (sign) => XML[sign]);
}

/** The conjectures of a text as a table: a row for each, with what stands before and after. */
export function toConjectures({ text, fills }) {
  const cell = (value) => String(value ?? "").replace(/\s/g, " ");
  const rows = fills.map(({ start, end, gap, sign, score, model }, index) => {
    const line = text.slice(0, start).split("\n").length;
    const around = [text.slice(Math.max(0, start - 30), start), text.slice(end, end + 30)];
    const cells = [index + 1, line, start, sign ?? gap, text.slice(start, end), score?.toFixed(3), model, ...around];
    return cells.map(cell).join("\t");
  });
  return ["number\tline\tcharacter\tgap\tconjecture\tscore\tmodel\tbefore\tafter", ...rows, ""].join("\n");
}

/** Tagged words as CoNLL-U, a sentence for each line of the text; gaps are words of the class X. */
export function toConllu(words) {
  const sentences = [[]];
  for (const { word, tag } of words) {
    const form = word.trim();
    if (form) sentences.at(-1).push({ form, tag, spaced: /\s$/.test(word) });
    else if (sentences.at(-1).length) sentences.at(-1).at(-1).spaced = true;
    if (word.includes("\n")) sentences.push([]);
  }
  return sentences
    .filter((sentence) => sentence.length)
    .map((sentence) => {
      let number = 1;
      const lines = sentence.flatMap(({ form, tag, spaced }) => {
        const space = spaced ? "_" : "SpaceAfter=No";
        // A joined tag is as many words of unknown form below their common one.
        const tags = tag.split("+");
        const row = (each, shown, misc) =>
          `${number++}\t${shown}\t_\t${UPOS.has(each) ? each : "X"}\t${each}\t_\t_\t_\t_\t${misc}`;
        if (tags.length === 1) return [row(tag, form, space)];
        const range = `${number}-${number + tags.length - 1}\t${form}\t_\t_\t_\t_\t_\t_\t_\t${space}`;
        return [range, ...tags.map((each) => row(each, "_", "_"))];
      });
      const text = sentence.map(({ form, spaced }) => form + (spaced ? " " : "")).join("").trimEnd();
      return [`# text = ${text}`, ...lines, ""].join("\n");
    })
    .join("\n");
}

/** Hand a file to the browser's downloads. */
export function download(name, content) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type: "text/plain;charset=utf-8" }));
  link.download = name;
  link.click();
  // Later: the browser reads it after the click.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
