# %% [markdown]
# # Fill gaps and tag words with a pretrained model
#
# Two models come with the package: one that fills the gaps of damaged texts, and one that finds words and their parts
# of speech. Nothing is trained or downloaded on this page.

# %%
from tibert_keras import TibertMaskedLM, TibertTokenClassifier

MODEL, TAGGER = "tibert_small_derge", "tibert_small_soas"

# %% [markdown]
# ## Fill a gap
#
# `[GAP:1-2]` stands for one or two missing syllables. The candidates come with a score between 0 and 1, the best first.

# %%
model = TibertMaskedLM.from_preset(MODEL)
((candidates,),) = model.fill_gaps(["བྱང་ཆུབ་[GAP:1-2]་དཔའ་ཆེན་པོ།"])
for candidate in candidates:
    print(f"{candidate.score:.3f}  {candidate.text}")

# %% [markdown]
# Part of a syllable may be legible: `[?]` is the rest of it. A text may have several gaps, and a gap may be left open
# in length.

# %%
texts = ["བཅོམ་ལྡན་འདས་ཀྱིས་བཀའ་སྩ[?]་ཏོ།", "འདི་སྐད་[GAP]་ཐོས་པ་[GAP:1]་གཅིག་ན།"]
for text, gaps in zip(texts, model.fill_gaps(texts, top_k=3), strict=True):
    print(text)
    for gap in gaps:
        print("   ", "   ".join(f"{candidate.text} {candidate.score:.2f}" for candidate in gap))

# %% [markdown]
# `[MASK]` is one piece of the model's vocabulary, here a syllable with its tsheg. The scores are probabilities.

# %%
for mask in model.fill_mask(["བཅོམ་ལྡན་འདས་ཀྱིས་བཀའ་[MASK]ཏོ།"], top_k=3):
    print(mask.pieces, [round(probability, 3) for probability in mask.probabilities])

# %% [markdown]
# ## Find words and their parts of speech

# %%
tagger = TibertTokenClassifier.from_preset(TAGGER)
(words,) = tagger.predict_words(["བཅོམ་ལྡན་འདས་ལ་ཕྱག་འཚལ་ལོ།"])
for word in words:
    print(f"{word.tag:12}{word.form}")

# %% [markdown]
# ## The same in a terminal
#
#     tibert fill-mask 'བྱང་ཆུབ་[GAP:1-2]་དཔའ་ཆེན་པོ།'
#     tibert tag --input_file=volume.txt --output_file=volume.conllu --format=conllu
#
# The commands use the same two models. They also read files, transcriptions with folio markers, and Wylie, and `tibert
# tag` takes texts of any length: [fill gaps](../how_to/fill_gaps.md), [tag text](../how_to/fine_tune.md#tag-text).
