# %% [markdown]
# # Pretrain in plain Keras
#
# A masked language model from a list of strings, with `fit()` as for any Keras model: a strategy, Google's LAMB and its
# schedule, callbacks, and a SavedModel at the end. The text is a made-up sample; use a list of your own.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

from tibert_keras import (
    LAMB,
    TibertMaskedLM,
    TibertMaskedLMPreprocessor,
    TibertTokenizer,
    WarmupPolynomialDecay,
    callbacks,
)
from tibert_keras.corpus.sample import sample_documents
from tibert_keras.tokenizers.training import TokenizerConfig, train_tokenizer

documents = list(sample_documents(num_documents=80))
texts = [" ".join(document[start : start + 4]) for document in documents for start in range(0, len(document), 4)]
print(len(texts), "texts, the first:", texts[0])

# %% [markdown]
# ## A tokenizer
#
# With `tsheg_pretokenization` no piece crosses the mark between two syllables, so a mask hides one syllable at most.

# %%
Path("text.txt").write_text("\n".join(texts), encoding="utf-8")
train_tokenizer(
    TokenizerConfig(input_file="text.txt", output_dir="tokenizer", vocab_size=700, tsheg_pretokenization=True)
)
tokenizer = TibertTokenizer("tokenizer/spiece.model", tsheg_pretokenization=True)
print(tokenizer.tokenize("བཅོམ་ལྡན་འདས་ལ་ཕྱག་འཚལ་ལོ།"))

# %% [markdown]
# ## Where the masks fall
#
# The preprocessor masks each batch anew: 15% of the tokens, in spans of up to three, of which 80% become `[MASK]`, 10%
# another piece, and 10% stay as they are. All of them are predicted.

# %%
preprocessor = TibertMaskedLMPreprocessor(tokenizer, sequence_length=64, mask_selection_length=10)
features, originals, weights = preprocessor(texts[:24])
shown = np.asarray(features["token_ids"])
kinds = np.where(shown == tokenizer.pad_token_id, 0, 1)
for row, (positions, pieces, weight) in enumerate(zip(features["mask_positions"], originals, weights, strict=True)):
    for position, piece in zip(np.asarray(positions)[np.asarray(weight) > 0], np.asarray(pieces), strict=False):
        became = shown[row, position]
        kinds[row, position] = 2 if became == tokenizer.mask_token_id else 3 if became == piece else 4

names = ["padding", "text", "[MASK]", "kept", "another piece"]
colours = plt.matplotlib.colors.ListedColormap(["white", "#d7dbe0", "#c0392b", "#e6a23c", "#2d6da3"])
figure, panel = plt.subplots(figsize=(10, 3.6), layout="constrained")
image = panel.imshow(kinds, cmap=colours, vmin=-0.5, vmax=4.5, aspect="auto")
panel.set(xlabel="token", ylabel="text")
figure.colorbar(image, ticks=range(5)).ax.set_yticklabels(names)
plt.show()

# %% [markdown]
# ## Strategy, model, optimizer
#
# `MirroredStrategy` takes all GPUs of the machine, or its CPU. On a TPU write `TPUStrategy`. `LAMB` and its schedule
# are those of Google's ALBERT: the rate rises over the warm-up and then falls to 0.

# %%
BATCH_SIZE, EPOCHS = 32, 3
steps = EPOCHS * -(-len(texts) // BATCH_SIZE)
schedule = WarmupPolynomialDecay(0.02, decay_steps=steps, warmup_steps=steps // 10)

with tf.distribute.MirroredStrategy().scope():
    model = TibertMaskedLM.from_preset("tibert_nano", preprocessor=preprocessor)
    # TensorFlow cannot compile a step with XLA under a strategy.
    model.compile(LAMB(schedule), jit_compile=False)

# %% [markdown]
# ## Train
#
# `SavedModelOfBest` exports each new best, `SaveCheckpoints` lets the same cell go on after an interruption. Both keep
# their files in the folder `run`.

# %%
saving = [callbacks.SavedModelOfBest("run"), callbacks.SaveCheckpoints("run")]
history = model.fit(texts, batch_size=BATCH_SIZE, epochs=EPOCHS, callbacks=saving, verbose=2)

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained")
left.plot(range(1, EPOCHS + 1), history.history["loss"], marker="o")
left.set(xlabel="epoch", ylabel="loss, nats", title="Loss at masked tokens")
right.plot([float(schedule(step)) for step in range(steps + 1)])
right.set(xlabel="step", ylabel="rate", title="WarmupPolynomialDecay")
plt.show()

# %% [markdown]
# In so few steps the model learns which pieces are frequent, which leaves about 5.2 nats. The same text for thousands
# of steps, as in `tibert quickstart`, brings it to fill nearly every mask.

# %% [markdown]
# ## The SavedModel
#
# It takes strings, needs only TensorFlow and TensorFlow Text, and TensorFlow Serving serves it.

# %%
fill_mask = tf.saved_model.load("run/saved_model").signatures["serving_default"]
answer = fill_mask(tf.constant(["བཅོམ་ལྡན་[MASK]་ལ་ཕྱག་འཚལ་ལོ།"]))
for piece, probability in zip(answer["pieces"][0, 0].numpy(), answer["probabilities"][0, 0].numpy(), strict=True):
    print(f"{probability:.3f}  {piece.decode()}")

# %% [markdown]
# ## Go on
#
# `examples/pretrain_in_keras.py` trains from record files, which are made once and read by many machines, takes a TPU
# by its name, and goes on where it was stopped. `tibert pretrain` does all of this by flags: [from an edition to a
# champion](from_an_edition_to_a_champion.md).
