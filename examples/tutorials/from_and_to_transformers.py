# %% [markdown]
# # From and to transformers
#
# A model goes to Hugging Face's transformers and comes back with the same weights, tokens and answers.

# %%
import shlex
import shutil

import numpy as np
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer, pipeline

from tibert_keras import TibertMaskedLM
from tibert_keras.cli.main import main
from tibert_keras.corpus.sample import sample_documents

# %% [markdown]
# ## Load
#
# Any preset or run will do; this one comes with the package.

# %%
model = TibertMaskedLM.from_preset("tibert_small_derge")

# %% [markdown]
# ## To transformers
#
# The conversion reads back what it wrote, runs the same batch through both, and prints the largest differences.


# %%
def tibert(words: str) -> None:
    """Run a command of `tibert`."""
    if status := main(shlex.split(words)):
        raise SystemExit(status)


tibert("convert --from=keras --input=tibert_small_derge --to=huggingface --output=for_transformers")

# %% [markdown]
# The folder loads without options, and the pipeline answers as `fill_mask` does:

# %%
TEXT = "བཅོམ་ལྡན་[MASK]ལ་ཕྱག་འཚལ་ལོ།"
theirs = AutoModelForMaskedLM.from_pretrained("for_transformers")
their_tokenizer = AutoTokenizer.from_pretrained("for_transformers")
for guess in pipeline("fill-mask", model=theirs, tokenizer=their_tokenizer)(TEXT, top_k=3):
    print(f"{guess['score']:.6f}  {guess['token_str']}")

# %%
(ours,) = model.fill_mask([TEXT], top_k=3)
for piece, probability in zip(ours.pieces, ours.probabilities, strict=True):
    print(f"{probability:.6f}  {piece}")

# %% [markdown]
# Each token id is the same, too:

# %%
texts = [section for document in sample_documents(num_documents=60) for section in document]
tokenizer = model.preprocessor.tokenizer
ids = their_tokenizer(texts, add_special_tokens=False)["input_ids"]
same = [each == np.asarray(other).tolist() for each, other in zip(ids, tokenizer(texts), strict=True)]
print(f"{sum(same)} of {len(texts)} texts have the same ids")

# %% [markdown]
# ## Train there
#
# A few steps in PyTorch, on a greeting of today, which the canon does not have.

# %%
GREETING = "བཀྲ་ཤིས་[MASK]ལེགས།"
batch = their_tokenizer([GREETING], return_tensors="pt")
right = their_tokenizer.convert_tokens_to_ids("བདེ་")
labels = torch.where(batch["input_ids"] == their_tokenizer.mask_token_id, right, -100)
optimizer = torch.optim.AdamW(theirs.parameters(), lr=3e-4)
for _ in range(4):
    loss = theirs(**batch, labels=labels).loss
    print(f"{loss.item():.4f}")
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
shutil.copytree("for_transformers", "trained_there")  # with the tokenizer
theirs.save_pretrained("trained_there")

# %% [markdown]
# ## From transformers
#
# `from_preset` takes a folder of transformers', or a handle such as `hf://user/model`.

# %%
back = TibertMaskedLM.from_preset("trained_there")
(before,) = model.fill_mask([GREETING], top_k=1)
print("before:", before.pieces, before.probabilities)
(mask,) = back.fill_mask([GREETING], top_k=3)
for piece, probability in zip(mask.pieces, mask.probabilities, strict=True):
    print(f"{probability:.6f}  {piece}")

# %% [markdown]
# `tibert convert --from=huggingface` writes a preset of it, and proves that both compute the same.

# %%
tibert("convert --from=huggingface --input=trained_there --to=keras --output=back")

# %% [markdown]
# Taggers and classifiers go the same way, with their labels: [convert](../how_to/convert.md). The names of both worlds
# side by side: [coming from another library](../coming_from.md).
