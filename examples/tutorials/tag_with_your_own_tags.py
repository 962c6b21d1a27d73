# %% [markdown]
# # Train a tagger of your own tags
#
# A tagger learns words and tags together, whatever the tags are. Here they are roles: who gives what to whom. The same
# person gives in one sentence and receives in the next, so only the context tells.

# %%
import random
import shlex
from pathlib import Path

from IPython.display import Image

from tibert_keras import TibertTokenClassifier
from tibert_keras.cli.main import main

# Persons, with the particle that marks them as the giver.
PERSONS = {
    "ཀུན་དགའ་བོ་": "ཡིས་", "རྒྱལ་པོ་": "ཡིས་", "དགེ་སློང་": "གིས་", "ཁྱིམ་བདག་": "གིས་", "སངས་རྒྱས་": "ཀྱིས་",
    "བྲམ་ཟེ་": "ཡིས་", "ལྷ་མོ་": "ཡིས་", "ཚོང་དཔོན་": "གྱིས་",
}  # fmt: skip
GIFTS, VERBS = ["མེ་ཏོག་", "གོས་", "གསེར་", "འབྲས་བུ་", "མར་མེ་"], ["ཕུལ", "བྱིན", "བསྐུར"]


def sentence(rng: random.Random, persons: list[str]) -> str:
    """Make a sentence of tagged words, `form|tag form|tag`."""
    giver, receiver = rng.sample(persons, 2)
    parts = [f"{giver}|GIVER {PERSONS[giver]}|CASE", f"{receiver}|RECEIVER ལ་|CASE"]
    rng.shuffle(parts)
    return " ".join([*parts, f"{rng.choice(GIFTS)}|GIFT {rng.choice(VERBS)}|VERB །|PUNCT"])


# %% [markdown]
# ## The data
#
# One document a line, in one of the [formats that the tagger reads](../how_to/fine_tune.md#a-tagger). Two persons occur
# in the test alone.

# %%
rng = random.Random(1)
for part, count, persons in (("train", 240, 6), ("validation", 40, 6), ("test", 80, 8)):
    lines = [sentence(rng, list(PERSONS)[:persons]) for _ in range(count)]
    Path(f"{part}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
print(lines[0])

# %% [markdown]
# ## Fine-tune
#
# In a terminal, type the words in quotes after `tibert`. The training starts from the language model that comes with
# the package; `--model` takes another. The table puts the tagger beside a baseline that takes the longest known words
# with their most frequent tags. Its last column is of words that the training never saw.


# %%
def tibert(words: str) -> None:
    """Run a command of `tibert`."""
    if status := main(shlex.split(words)):
        raise SystemExit(status)


tibert(
    "finetune tokens --input_file=train.txt --validation_file=validation.txt "
    "--test_file=test.txt --output_dir=tagger --min_tag_count=1 --learning_rate=0.001 "
    "--num_epochs=6 --train_batch_size=16 --max_seq_length=16 --jit_compile=false"
)

# %% [markdown]
# The confusion matrix has a row for each true tag. `CONT` is a syllable that continues a word.

# %%
Image("tagger/confusion.png")

# %%
tibert("runs tagger --plot=loss.png")
Image("loss.png")

# %% [markdown]
# ## Tag

# %%
tagger = TibertTokenClassifier.from_preset("tagger/champion")
for text in ("དགེ་སློང་གིས་བྲམ་ཟེ་ལ་མེ་ཏོག་ཕུལ།", "དགེ་སློང་ལ་བྲམ་ཟེ་ཡིས་གསེར་བྱིན།"):
    (words,) = tagger.predict_words([text])
    print("  ".join(f"{word.form}|{word.tag}" for word in words))

# %% [markdown]
# `tibert tag --model=tagger --input_file=text.txt` reads texts of any length and writes CoNLL-U, tables or JSON. With
# `fit()` instead of the verb, the same training is three lines: [fine-tune](../how_to/fine_tune.md).
