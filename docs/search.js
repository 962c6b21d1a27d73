// Finds and ranks the pages of the site's search. Sphinx wants every word of the question in a page, and scores nearly all
// pages alike. Here a page may lack words, a rare word counts more, a title most, a long page less, and guides come before measurements.
for (const word of ["get", "help", "mean", "need", "use", "want", "work"]) stopwords.add(word);
const stemsOf = (text) =>
  splitQuery(text.toLowerCase()).filter((word) => !stopwords.has(word)).map((word) => new Stemmer().stemWord(word));

Search.performTermsSearch = (words, excludedWords) => {
  const { terms, titleterms, alltitles, titles, docnames, filenames } = Search._index;
  const pagesOf = (word) => new Set([terms, titleterms].flatMap((index) => (Object.hasOwn(index, word) ? index[word] : [])));
  const weights = new Map([...words].map((word) => [word, Math.log(1 + docnames.length / (1 + pagesOf(word).size))]));
  const sum = (some) => [...some].reduce((total, word) => total + (weights.get(word) ?? 2), 0);
  const all = sum(words);

  // The title of each page, or of the section in it, that has most of the question.
  const best = new Map();
  for (const [title, places] of Object.entries(alltitles)) {
    const stems = new Set(stemsOf(title));
    const shared = sum([...words].filter((word) => stems.has(word)));
    const share = shared / (all + (sum(stems) - shared) / 4);
    for (const [page, id] of places)
      if (share > (best.get(page)?.share ?? 0)) best.set(page, { share, title, anchor: id === null ? "" : `#${id}` });
  }
  const sizes = new Array(docnames.length).fill(0);
  for (const pages of Object.values(terms)) for (const page of [pages].flat()) sizes[page] += 1;
  const meanSize = sizes.reduce((total, size) => total + size) / sizes.length;
  const excluded = new Set([...excludedWords].flatMap((word) => [...pagesOf(word)]));
  const found = new Map();
  for (const word of words)
    for (const page of pagesOf(word)) found.set(page, (found.get(page) ?? 0) + weights.get(word) / all);
  return [...found].filter(([page]) => !excluded.has(page)).map(([page, share]) => {
    const section = best.get(page);
    const title = section?.anchor ? `${titles[page]} > ${section.title}` : titles[page];
    const score = (10 * share) / (0.75 + (0.25 * sizes[page]) / meanSize) + 10 * (section?.share ?? 0);
    return [docnames[page], title, section?.anchor ?? "", null, score, filenames[page], SearchResultKind.text];
  });
};

var Scorer = {
  score: ([page, , , , score]) => score - (/^(benchmarks|cards|changelog|decisions|experiments)/.test(page) ? 5 : 0),
  // Sphinx's own values.
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
};
