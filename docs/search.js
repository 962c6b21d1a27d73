// Ranks the results of the site's search. Sphinx gives nearly all of them the same score; here the words of the question
// that a title has count too, and guides come before measurements and decisions.
const inTitle = (title) => {
  const stem = (text) => text.toLowerCase().match(/\w+/g)?.map((word) => new Stemmer().stemWord(word)) ?? [];
  const question = new URLSearchParams(location.search).get("q") ?? "";
  const words = new Set(stem(title));
  return stem(question).filter((word) => !stopwords.has(word) && words.has(word)).length;
};

var Scorer = {
  score: ([page, title, , , score]) =>
    score + 5 * inTitle(title) - (/^(benchmarks|cards|changelog|decisions|experiments)/.test(page) ? 10 : 0),
  // Sphinx's own values.
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
