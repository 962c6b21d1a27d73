# %% [markdown]
# # Pretrain in plain Keras
#
# A masked language model from a list of strings, with `fit()` as for any Keras model: a strategy, Google's LAMB and its
# schedule, callbacks, and a SavedModel at the end. The text is a made-up sample; use a list of your own.

# %%
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

from tibert_keras import LAMB, TibertMaskedLM, TibertMaskedLMPreprocessor, WarmupPolynomialDecay, callbacks
from tibert_keras.corpus.sample import sample_documents

tf.get_logger().setLevel("ERROR")  # It would note each export.
documents = list(sample_documents(num_documents=10))
texts = [" ".join(document[start : start + 4]) for document in documents for start in range(0, len(document), 4)]
print(len(texts), "texts, the first:", texts[0])

# %% [markdown]
# ## Where the masks fall
#
# The preprocessor cuts the texts into pieces and masks each batch anew. With the options of the model that comes with
# the package it chooses 25% of the tokens: 80% of these become `[MASK]`, 10% another piece, and 10% stay as they are.
# All of them are predicted.

# %%
preprocessor = TibertMaskedLMPreprocessor.from_preset(
    "tibert_small_derge", sequence_length=64, mask_selection_length=16
)
tokenizer = preprocessor.tokenizer
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
#
# To learn something in seconds, the model begins with the weights that come with the package.
# `examples/train_on_your_own_text.py` trains a tokenizer and a model from nothing in the same way.

# %%
BATCH_SIZE, EPOCHS = 16, 4
steps = EPOCHS * -(-len(texts) // BATCH_SIZE)
schedule = WarmupPolynomialDecay(0.005, decay_steps=steps, warmup_steps=steps // 10)

with tf.distribute.MirroredStrategy().scope():
    model = TibertMaskedLM.from_preset("tibert_small_derge", preprocessor=preprocessor)
    # TensorFlow cannot compile a step with XLA under a strategy.
    model.compile(LAMB(schedule), jit_compile=False)

# %% [markdown]
# ## Train
#
# `SavedModelOfBest` exports the model after each epoch with a new lowest loss; with `window=steps` it exports once, at
# the end. `SaveCheckpoints` lets the same cell go on after an interruption. Both keep their files in the folder `run`.

# %%
TEXT = "བུ་གསུམ་པ་ནི་གཞོན་ནུ་ཞེས་[MASK]བ་ཡིན་ནོ།"  # a piece has its tsheg
(before,) = model.fill_mask([TEXT], top_k=3)
print(before.pieces, np.round(before.probabilities, 3))

# %%
saving = [callbacks.SavedModelOfBest("run", window=steps), callbacks.SaveCheckpoints("run")]
history = model.fit(texts, batch_size=BATCH_SIZE, epochs=EPOCHS, callbacks=saving, verbose=2)

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained")
left.plot(range(1, EPOCHS + 1), history.history["loss"], marker="o")
left.set(xlabel="epoch", ylabel="loss, nats", title="Loss at masked tokens")
right.plot([float(schedule(step)) for step in range(steps + 1)])
right.set(xlabel="step", ylabel="rate", title="WarmupPolynomialDecay")
plt.show()

# %% [markdown]
# ## The SavedModel
#
# It takes strings, needs only TensorFlow and TensorFlow Text, and TensorFlow Serving serves it. Compare
# its answer with the one above.

# %%
fill_mask = tf.saved_model.load("run/saved_model").signatures["serving_default"]
answer = fill_mask(tf.constant([TEXT]))
for piece, probability in zip(answer["pieces"][0, 0].numpy(), answer["probabilities"][0, 0].numpy(), strict=True):
    print(f"{probability:.3f}  {piece.decode()}")

# %% [markdown]
# ## Go on
#
# `examples/pretrain_in_keras.py` trains from record files, which are made once and read by many machines, takes a TPU
# by its name, and goes on where it was stopped. `tibert pretrain` does all of this by flags: [from an edition to a
# champion](from_an_edition_to_a_champion.md).
