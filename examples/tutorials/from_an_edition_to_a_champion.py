# %% [markdown]
# # From an edition to a champion
#
# Each stage is a verb of the command line, reads a folder and writes a folder. This page runs them in a notebook
# through `tibert(...)`; in a terminal, type the words in quotes after `tibert`.

# %%
import shlex
from pathlib import Path

from IPython.display import Image

from tibert_keras.cli.main import main
from tibert_keras.corpus.sample import sample_documents


def tibert(words: str) -> None:
    """Run a command of `tibert`."""
    if status := main(shlex.split(words)):
        raise SystemExit(status)


# %% [markdown]
# ## The edition
#
# Made-up texts in the markup of Esukhia's Derge Kangyur: a file for each volume, the folio and line at the start of
# each line, and the catalogue number where a text begins.

# %%
Path("edition").mkdir()
documents = list(sample_documents(num_documents=60))
for volume in range(1, 6):
    lines = []
    for number in range(volume, len(documents) + 1, 5):
        sections = documents[number - 1]
        cuts = range(0, len(sections), 3)
        texts = [" ".join(sections[start : start + 3]) for start in cuts]
        side = f"{number}{'ab'[number % 2]}"
        lines += [f"[{side}.{n}]{'' if n > 1 else f'{{D{number}}}'}{text} " for n, text in enumerate(texts, 1)]
    Path(f"edition/{volume:03}_མདོ་སྡེ།.txt").write_text("\n".join(lines), encoding="utf-8")
print(*lines[:3], sep="\n")

# %% [markdown]
# ## Corpus
#
# The markup goes, a section is a line, an empty line ends a document. Volume 5 is held out.

# %%
tibert("corpus --input_file=edition/*.txt --output_dir=corpus --validation_volumes=[5] --workers=1")
for path in sorted(Path("corpus").glob("*.txt")):
    print(path, path.read_text(encoding="utf-8").count("\n"), "lines")

# %% [markdown]
# ## The model to start from
#
# The package's model knows the Derge canon; this copies it. From nothing, `tibert tokenizer` would come next, and hours
# of training: [pretrain on the Kangyur](../how_to/pretrain_on_the_kangyur.md).

# %%
tibert("convert --from=keras --input=tibert_small_derge --to=keras --output=base")

# %% [markdown]
# ## Records
#
# Masked examples in Google ALBERT's schema, with the pieces of that model.

# %%
COMMON = (
    "--spm_model_file=base/assets/tokenizer/vocabulary.spm --tsheg_pretokenization "
    "--max_seq_length=64 --max_predictions_per_seq=10 --ngram=1 --workers=1"
)
tibert(f"records --input_file=corpus/train_*.txt --output_dir=records {COMMON}")
tibert(f"records --input_file=corpus/validation_*.txt --output_dir=held_out {COMMON}")

# %% [markdown]
# Look at them before training. `⟦original→shown⟧` is a token to predict, `⟦original=⟧` one that was kept.

# %%
tibert("records inspect records/train_kangyur1.tf_record --num_examples=2 --plot=records.png")
Image("records.png")

# %% [markdown]
# ## Pretrain
#
# The flags are those of Google's script. The same command goes on if it was stopped.

# %%
tibert(
    "pretrain --preset=base --input_file=records/*.tf_record --output_dir=run "
    "--validation_file=held_out/*.tf_record --optimizer=muon --learning_rate=0.003 "
    "--train_batch_size=8 --num_train_steps=30 --num_warmup_steps=5 --save_checkpoints_steps=15 "
    "--max_seq_length=64 --max_predictions_per_seq=10 --jit_compile=false"
)

# %% [markdown]
# The checkpoint with the lowest validation loss is the champion. `tibert runs` compares runs, also while they train.

# %%
tibert("runs run --plot=curves.png")
Image("curves.png")

# %% [markdown]
# ## Evaluate
#
# How many of the hidden tokens of the held-out volume each model finds, the package's and then the champion:

# %%
for model in ("base", "run"):
    print(model)
    tibert(f"evaluate --model={model} --input_file=held_out/*.tf_record")

# %% [markdown]
# `--baseline=records/*.tf_record` adds a third figure, for counting the n-grams of the training text. A made-up text
# repeats itself so much that counting does better still.
#
# ## Use it

# %%
for model in ("base", "run"):
    print(model)
    tibert(f"fill-mask --model={model} --top_k=3 དེའི་ཚེ་རྒྱལ་པོ་ནི་ང་[GAP:1]་ཡིན་ནོ།")

# %% [markdown]
# A card says how the champion was made, down to the hashes of its text.

# %%
tibert("card run")
print("\n".join(Path("run/CARD.md").read_text(encoding="utf-8").splitlines()[:24]))

# %% [markdown]
# ## Go on
#
# The same verbs over the whole canon, with the figures they give: [pretrain on the
# Kangyur](../how_to/pretrain_on_the_kangyur.md).
