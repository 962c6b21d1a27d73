"""A tagger in a SavedModel: text to words and tags."""

import tensorflow as tf

from tibert_keras.models.text_in_graph import normalize_in_graph, read_syllables_in_graph
from tibert_keras.models.tibert_token_classifier import TibertTokenClassifier
from tibert_keras.models.tibert_tokenizer import absorb_spaces_in_graph
from tibert_keras.saved_model.precision import Precision
from tibert_keras.saved_model.text_module import NO_TEXT, TEXT, TextModule, bounded
from tibert_keras.tagging.packing import tags_of_kinds
from tibert_keras.tagging.words import FOREIGN, OF_MARKS, OF_SYLLABLES
from tibert_keras.tibetan import FOREIGN_PATTERN, LONE_TSHEG_PATTERN, MARK_PATTERN, SYLLABLE_PATTERN, TOKENIZER_SPACES

_CUT = rb"\1" + NO_TEXT


class TagWords(TextModule):
    """The signatures of a tagger's SavedModel, also usable directly."""

    signature_names = ("tag", "tag", "tokenize")

    def __init__(self, model: TibertTokenClassifier, *, precision: Precision = "float32") -> None:
        super().__init__(model, precision=precision)
        self.labels = tf.constant(list(model.labels))
        continuation = model.preprocessor.continuation
        self._is_continuation = tf.constant([label == continuation for label in model.labels])
        self._tags_of_kinds = tf.constant(tags_of_kinds(model.labels))

    @tf.function(input_signature=[TEXT])
    def tag(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """Segment texts, strings `[batch]`, into words and tag them.

        Returns `words` and `tags` (string) and `probabilities` of the tags (float32), all `[batch, words]`, padded with
        empty strings and zeros; and `word_count`, int32 `[batch]`. The words of a text, joined, are the text. A text of
        spaces only is a single word, whose tag has probability 0.
        """
        syllables = tf.strings.split(tf.strings.regex_replace(bounded(text), f"({SYLLABLE_PATTERN})", _CUT), NO_TEXT)
        syllables = tf.ragged.boolean_mask(syllables, ~(syllables == ""))
        rows, count = syllables.value_rowids(), tf.size(syllables.flat_values, tf.int64)
        is_first = tf.range(count) == tf.gather(syllables.row_starts(), rows)
        probabilities = self._probabilities(syllables)

        likeliest = tf.math.top_k(probabilities, k=1).indices[:, 0]
        # The first syllable begins a word, whatever the model predicts.
        begins = is_first | ~tf.gather(self._is_continuation, likeliest)
        # The rules of `join_syllables`: a unit that is foreign, or of another kind than the one before, begins a word
        # too; a tsheg alone belongs to the word before it.
        is_tsheg = tf.strings.regex_full_match(syllables.flat_values, LONE_TSHEG_PATTERN)
        goes_on = is_tsheg & ~is_first
        is_mark = is_tsheg | tf.strings.regex_full_match(syllables.flat_values, MARK_PATTERN)
        is_foreign = tf.strings.regex_full_match(syllables.flat_values, FOREIGN_PATTERN)
        kinds = tf.where(is_mark, OF_MARKS, tf.where(is_foreign, FOREIGN, OF_SYLLABLES))
        # The unit after such a tsheg is compared with the one before it.
        kinds = tf.gather(tf.boolean_mask(kinds, ~goes_on), tf.cumsum(tf.cast(~goes_on, tf.int32)) - 1)
        begins |= (kinds == FOREIGN) | tf.concat([is_first[:1], kinds[1:] != kinds[:-1]], axis=0)
        begins &= ~goes_on
        of_tags, ids = tf.math.top_k(tf.where(tf.gather(self._tags_of_kinds, kinds), probabilities, -1.0), k=1)
        word_ids = tf.cumsum(tf.cast(begins, tf.int32)) - 1
        words = tf.strings.unsorted_segment_join(
            syllables.flat_values, word_ids, tf.reduce_sum(tf.cast(begins, tf.int32))
        )
        rows = tf.boolean_mask(rows, begins)
        tags = tf.gather(self.labels, tf.boolean_mask(ids[:, 0], begins))

        def by_text(values: tf.Tensor) -> tf.RaggedTensor:
            return tf.RaggedTensor.from_value_rowids(values, rows, nrows=syllables.nrows(), validate=False)

        return {
            "words": by_text(words).to_tensor(""),
            "tags": by_text(tags).to_tensor(""),
            "probabilities": by_text(tf.boolean_mask(of_tags[:, 0], begins)).to_tensor(0.0),
            "word_count": tf.cast(by_text(words).row_lengths(), tf.int32),
        }

    def _probabilities(self, syllables: tf.RaggedTensor) -> tf.Tensor:
        """Return the probabilities of each syllable's labels, one text after the other, `[syllables, labels]`."""
        pieces = syllables.with_values(self._encode(syllables))
        tokens = pieces.merge_dims(1, 2)
        of_tokens = tf.nn.softmax(self._logits(self._pack(tokens)))
        rows = syllables.value_rowids()
        # [CLS] stands before the first piece.
        positions = 1 + pieces.values.row_starts() - tf.gather(tokens.row_starts(), rows)
        places = rows * tf.shape(of_tokens, tf.int64)[1] + positions
        of_syllables = tf.gather(tf.reshape(of_tokens, [-1, self.labels.shape[0]]), places)
        # A syllable without pieces continues the word before it.
        return tf.where(
            pieces.values.row_lengths()[:, tf.newaxis] > 0, of_syllables, tf.cast(self._is_continuation, tf.float32)
        )

    def _encode(self, syllables: tf.RaggedTensor) -> tf.RaggedTensor:
        """Run `TibertTokenizer.encode_syllables` in a graph, for the pieces `[syllables, (pieces)]` of all texts."""
        flat, rows = read_syllables_in_graph(syllables.flat_values), syllables.value_rowids()
        flat = normalize_in_graph(flat, self._tokenizer.normalization)
        space = " " if self._tokenizer.underline_between_sections else ""
        is_first = tf.range(tf.size(flat, tf.int64)) == tf.gather(syllables.row_starts(), rows)
        ended = tf.strings.regex_full_match(flat, f"(?s).*{TOKENIZER_SPACES}")
        after_space = is_first | tf.strings.regex_full_match(flat, f"{TOKENIZER_SPACES}(?s).*")
        # Nothing comes before the first syllable.
        after_space |= tf.concat([tf.zeros([tf.minimum(tf.size(flat), 1)], tf.bool), ended[:-1]], axis=0)
        units = tf.strings.regex_replace(flat, f"^{TOKENIZER_SPACES}|{TOKENIZER_SPACES}$", "")
        units = tf.strings.regex_replace(units, TOKENIZER_SPACES, space)
        units = tf.where(after_space & ~(units == ""), tf.strings.join([space, units]), units)
        pieces = absorb_spaces_in_graph(self.sentence_piece.tokenize(units), *self._tokenizer.space_and_mask)
        return self._unless_masks(pieces)
