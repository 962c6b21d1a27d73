// What can be said of a text with gaps without looking at the page.

// As the server reads them.
const LETTERS = "[\\u0f00\\u0f18\\u0f19\\u0f35\\u0f37\\u0f39\\u0f3e\\u0f3f\\u0f40-\\u0fbc\\u0fc6]{0,16}";
export const GAP = new RegExp(
  String.raw`(?:\[MASK\])+|\[GAP(?::[^\]\n]*)?\]?|${LETTERS}\[\?\]${LETTERS}|<gap\b[^<>]*?(?:\/>|>\s*<\/gap>)`,
  "g",
);
// Marks of gaps in other editions, also as the server knows them: [---], [...], …, xxx, and marks without a length.
const SIGNS =
  String.raw`\[(?:[-\u2010-\u2015.…‥⋯xX×\s_*+]+\??)?\]` +
  String.raw`|[\[({](?:[Gg]ap|[Ll]acuna|[Ii]lleg(?:ible|\.)|[Ll]ost|[Mm]issing|[Uu]nclear|[Dd]amaged|[Ee]rased)[\])}]` +
  String.raw`|\[(?:ca?\. ?|[±+~] ?)?\d{1,2} ?syll?(?:able)?s?\.?(?: (?:illegible|lacking|lost|missing))?\]` +
  String.raw`|\[(?:ca?\. ?|[±+~] ?)\d{1,2}\]|\[[-\u2010-\u2015.…]+ ?\d{1,2} ?[-\u2010-\u2015.…]+\]` +
  String.raw`|[({<⟨⟦‹〈《【⸢]\s*(?:[…⋯]\s*|(?:[-\u2010-\u2015.xX×+]\s*){3,})(?:\?\s*)?[)}>⟩⟧›〉》】⸣]` +
  String.raw`|[{<⟨⟦‹〈《【⸢]\s*\?+\s*[}>⟩⟧›〉》】⸣]|[…⋯]+|\.{3,}|-{3,}|\+{3,}|×+` +
  String.raw`|_{3,}|\?{3,}|[•‧]{3,}|(?<![a-zA-Z])(?:x{3,}|X{3,})(?![a-zA-Z])|[\u25a0-\u25a2\u25ad-\u25af\u3013\u25cc\u25ef]+|[\u25cb\u25cf]{2,}`;
const FOREIGN = new RegExp(String.raw`<gap\b[^<>]*>(?:<\/gap>)?|\[GAP:?\]|${SIGNS}`, "g");
// More than a model sees at a time.
const REACH = 600;
// Characters of a block, of which the browser lays out only those in sight.
const BLOCK = 1500;

/** Whether a text has letters or digits, but none of Tibetan. Gaps are neither. */
export function lacksTibetan(text) {
  return /(?![\u0f20-\u0f33])[\p{L}\p{N}]/u.test(text.replace(GAP, "")) && !/[\u0f00\u0f40-\u0fbc]/.test(text);
}

/** The gaps of a text: `{start, end}`. */
export function findGaps(text) {
  return [...text.matchAll(GAP)].map((match) => ({ start: match.index, end: match.index + match[0].length }));
}

/** The marks of gaps in a text as other editions have them, which are no gaps yet. */
export function findForeign(text) {
  return text.match(FOREIGN) ?? [];
}

// Tags of XML and HTML, except TEI's gaps.
const MARKUP = /<\/?(?!gap\b)[A-Za-z][^<>]*>/g;

/** The markup in a text, which a model would take for text. */
export function findMarkup(text) {
  return text.match(MARKUP) ?? [];
}

/** The text without its markup, and with a line break for `<lb>`. */
export function withoutMarkup(text) {
  return text.replace(MARKUP, (tag) => (/^<lb\b/.test(tag) ? "\n" : ""));
}

/** Make gaps of the marks of other editions: `gap`, unless the mark says how many syllables are missing. */
export function adoptForeign(state, gap) {
  // From the end, so that the places of the others stay as they are.
  for (const { 0: sign, index: start } of [...state.text.matchAll(FOREIGN)].reverse()) {
    const adopted = lengthOf(sign) ?? gap;
    state = put(state, { start, end: start + sign.length }, adopted);
    state.signs.push({ start, end: start + adopted.length, sign });
  }
  return state;
}

/** A gap of as many syllables as the mark of another edition says, if it does. */
function lengthOf(mark) {
  const says = (name) => new RegExp(`${name}=["'](\\d+)["']`).exec(mark)?.[1];
  const least = says("quantity") ?? says("atLeast");
  if (!least || !/unit=["']syllables?["']/.test(mark)) return null;
  return `[GAP:${least}${says("atMost") ? `-${says("atMost")}` : ""}]`;
}

/** The part of a text to send for gap `index`, and which of its gaps that is; the others are only what is around it. */
export function around(text, gaps, index) {
  let start = Math.max(0, gaps[index].start - REACH);
  let end = Math.min(text.length, gaps[index].end + REACH);
  // Not through the middle of another gap.
  for (const gap of gaps) {
    if (gap.start < start && start < gap.end) start = gap.end;
    if (gap.start < end && end < gap.end) end = gap.start;
  }
  const number = gaps.filter((gap) => gap.start >= start && gap.end <= gaps[index].start).length;
  return { text: text.slice(start, end), number };
}

// A state is `{text, fills, signs}`: the fillings are `{start, end, gap, sign, score, model}`; the signs of other editions
// that gaps have been made of, while these are not filled, `{start, end, sign}`. Old states have no signs.

/** Put `part` in place of what is from `start` to `end`. What is noted of places behind it moves along. */
function put({ text, fills, signs = [] }, { start, end }, part) {
  const shift = part.length - (end - start);
  const move = (each) =>
    each.start < start || each.end <= start ? each : { ...each, start: each.start + shift, end: each.end + shift };
  return { text: text.slice(0, start) + part + text.slice(end), fills: fills.map(move), signs: signs.map(move) };
}

/** Put a filling in place of a gap, and note it among the fillings. */
export function fill({ text, fills, signs = [] }, gap, filling, source = {}) {
  const { start, end } = gap;
  const sign = signs.find((each) => each.start === start)?.sign;
  const filled = put({ text, fills, signs: signs.filter((each) => each.start !== start) }, gap, filling);
  filled.fills.push({ start, end: start + filling.length, gap: text.slice(start, end), sign, ...source });
  filled.fills.sort((a, b) => a.start - b.start);
  return filled;
}

/** Make a gap again of a filling. */
export function reopen(state, filling) {
  const { start, gap, sign } = filling;
  const opened = put({ ...state, fills: state.fills.filter((each) => each !== filling) }, filling, gap);
  if (sign) opened.signs.push({ start, end: start + gap.length, sign });
  return opened;
}

/** The state after somebody has changed the text by hand: what was not touched stays noted. */
export function edit({ text, fills, signs = [] }, changed) {
  let same = 0;
  const shorter = Math.min(text.length, changed.length);
  while (same < shorter && text[same] === changed[same]) same++;
  let tail = 0;
  while (tail < shorter - same && text[text.length - 1 - tail] === changed[changed.length - 1 - tail]) tail++;
  const shift = changed.length - text.length;
  const keep = (each) => {
    if (each.end <= same) return [each];
    if (each.start >= text.length - tail) return [{ ...each, start: each.start + shift, end: each.end + shift }];
    return [];
  };
  return { text: changed, fills: fills.flatMap(keep), signs: signs.flatMap(keep) };
}

/** Cut a text into parts of so many characters at most, after shads if there are any, after tshegs otherwise. */
export function parts(text, size) {
  const found = [];
  for (let rest = text; rest; rest = rest.slice(found.at(-1).length)) {
    const part = rest.slice(0, size);
    const cut = rest.length > size ? after(part, /.*[།-༒༔] ?/s) : size;
    found.push(part.slice(0, cut > 1 ? cut : after(part, /.*[་༌࿒]/s) || size));
  }
  return found;
}

/** How much of a text, from its beginning, a pattern matches. */
function after(text, pattern) {
  return pattern.exec(text)?.[0].length ?? 0;
}

/** Part a text into blocks of parts, `{kind: "text" | "gap" | "fill", text, ...}`, at shads and line ends. */
export function blocks({ text, fills }) {
  const special = [
    ...findGaps(text).map((gap, index) => ({ ...gap, kind: "gap", index })),
    ...fills.map((filling) => ({ ...filling, kind: "fill", filling })),
  ].sort((a, b) => a.start - b.start);
  const found = [[]];
  let length = 0;
  const put = (part) => {
    found.at(-1).push(part);
    length += part.text.length;
  };
  const putText = (plain) => {
    while (plain) {
      const room = Math.max(0, BLOCK - length);
      const stop = plain.length <= room ? null : /[།-༒༔\n ](?![།-༒༔\n ])/g;
      if (stop) stop.lastIndex = room;
      // A text without either is parted where it is much too long.
      const cut = stop ? Math.min(stop.exec(plain)?.index ?? Infinity, room + BLOCK) + 1 : plain.length;
      put({ kind: "text", text: plain.slice(0, cut) });
      plain = plain.slice(cut);
      if (plain) {
        found.push([]);
        length = 0;
      }
    }
  };
  let place = 0;
  for (const part of special) {
    if (part.start < place) continue; // a filling that looks like a gap
    putText(text.slice(place, part.start));
    put({ ...part, text: text.slice(part.start, part.end) });
    place = part.end;
  }
  putText(text.slice(place));
  return found;
}
