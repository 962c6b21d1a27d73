// The names and colours of parts of speech.

// The universal parts of speech, the more frequent ones first: these get the colours that differ most.
export const UNIVERSAL = {
  NOUN: "noun",
  VERB: "verb",
  ADP: "case marker or postposition",
  PUNCT: "punctuation",
  PART: "particle",
  DET: "determiner",
  ADJ: "adjective",
  PRON: "pronoun",
  AUX: "auxiliary verb",
  ADV: "adverb",
  NUM: "numeral",
  PROPN: "proper name",
  SCONJ: "subordinating conjunction",
  CCONJ: "coordinating conjunction",
  INTJ: "interjection",
  SYM: "symbol",
  X: "other",
  UNK: "rare tag",
};

/** What a tag means, if it is one of the universal parts of speech, or several joined by a plus. */
export function meaning(tag) {
  return tag.split("+").map((kind) => UNIVERSAL[kind] ?? "").filter(Boolean).join(" + ");
}

/** Give an element the colour of a tag, always the same: what is before a dot or a plus tells the kind of word. */
export function coloured(element, tag) {
  const [kind] = tag.split(/[.+]/);
  let number = Object.keys(UNIVERSAL).indexOf(kind);
  if (number < 0) {
    number = 0;
    for (const letter of kind) number = (number * 127 + letter.codePointAt(0)) % 997;
  }
  // Steps of the golden angle, in degrees, keep neighbours apart.
  element.style.setProperty("--hue", (number * 137.508) % 360);
  return element;
}
