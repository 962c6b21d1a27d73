#!/usr/bin/env bash
# Makes a small one of everything that a user may have on disk, with the commit that is installed, and what it answers.
# `artefacts.tar.xz` was made at 645ec17, the last commit before the folders of the package were ordered anew:
#     bash tests/before/make.sh FOLDER && tar -C FOLDER -cJf tests/before/artefacts.tar.xz .
set -euo pipefail
mkdir -p "$1"
cd "$1"
export TF_CPP_MIN_LOG_LEVEL=3

python - <<'PY'
import random

words = "བླ་མ་ ཆོས་ སངས་རྒྱས་ བྱང་ཆུབ་ སེམས་དཔའ་ རྒྱལ་པོ་ གྲོང་ཁྱེར་ དགེ་སློང་ ཤེས་རབ་ བཅོམ་ལྡན་འདས་".split()
rng = random.Random(0)
sections = ["".join(rng.choices(words, k=6)) + "ལ་ཕྱག་འཚལ་ལོ།" for _ in range(120)]
documents = ["\n".join(sections[start : start + 6]) for start in range(0, len(sections), 6)]
open("text.txt", "w").write("\n\n".join(documents) + "\n")
half = {"a": words[:5], "b": words[5:]}
for part in ("train", "validation", "test"):
    tagged = [" ".join(f"{word}|NOUN" for word in rng.choices(words, k=4)) for _ in range(30)]
    with open(f"{part}.txt", "w") as file:
        file.writelines(f"{line} ལ་|ADP ཕྱག་འཚལ་|VERB ལོ|PART །|PUNCT\n" for line in tagged)
    with open(f"{part}.tsv", "w") as file:
        file.writelines(f"{label}\t{''.join(rng.choices(half[label], k=5))}།\n" for label in "ab" * 30)
open("albert_config.json", "w").write("""{"attention_probs_dropout_prob": 0, "hidden_act": "gelu",
"hidden_dropout_prob": 0, "embedding_size": 8, "hidden_size": 16, "initializer_range": 0.02, "intermediate_size": 32,
"max_position_embeddings": 64, "num_attention_heads": 2, "num_hidden_layers": 2, "num_hidden_groups": 1,
"net_structure_type": 0, "gap_size": 0, "num_memory_blocks": 0, "inner_group_num": 1, "down_scale_factor": 1,
"type_vocab_size": 2, "vocab_size": 120}""")
PY

tibert corpus --input_file=text.txt --output_dir=corpus --edition=plain --workers=1
tibert tokenizer --input_file='corpus/*.txt' --output_dir=spm --vocab_size=120 --tsheg_pretokenization=true
tibert records --input_file='corpus/*.txt' --output_dir=records --spm_model_file=spm/spiece.model --workers=1 \
  --tsheg_pretokenization=true --max_seq_length=32 --max_predictions_per_seq=5
tibert pretrain --input_file='records/*.tf_record' --output_dir=run --albert_config_file=albert_config.json \
  --train_batch_size=4 --max_seq_length=32 --max_predictions_per_seq=5 --learning_rate=0.02 --num_train_steps=60 \
  --num_warmup_steps=6 --save_checkpoints_steps=20 --keep_checkpoint_max=5 --jit_compile=false --seed=1
tibert finetune tokens --input_file=train.txt --validation_file=validation.txt --test_file=test.txt --output_dir=tagger \
  --model=run --min_tag_count=1 --num_epochs=15 --num_seeds=1 --train_batch_size=8 --max_seq_length=32 --learning_rate=0.02
tibert finetune text --input_file=train.tsv --validation_file=validation.tsv --test_file=test.tsv --output_dir=classifier \
  --model=run --num_epochs=8 --num_seeds=1 --train_batch_size=8 --max_seq_length=32 --learning_rate=0.02
tibert export --model=run --output_dir=saved_model
tibert convert --from=keras --input=run --to=google --output=google
tibert convert --from=keras --input=run --to=huggingface --output=huggingface
rm -rf ./*/logs ./*/*/logs

text='སངས་རྒྱས་[MASK]བླ་མ་ལ་ཕྱག་འཚལ་ལོ།'
{
  tibert evaluate --model=run --input_file='records/*.tf_record'
  tibert fill-mask --model=run "$text" 'བླ་མ་[GAP:1]་རྒྱས་ལ་ཕྱག་འཚལ་ལོ།'
  tibert fill-mask --model=saved_model "$text"
  tibert tag --model=tagger 'བླ་མ་ཆོས་ལ་ཕྱག་འཚལ་ལོ། །'
} > answers.txt
python - <<'PY'
import keras
import numpy as np
from tibert_keras import TibertMaskedLM, TibertTextClassifier, TibertTokenClassifier

texts = ["བླ་མ་ཆོས་ལ་ཕྱག་འཚལ་ལོ།", "སངས་རྒྱས་གྲོང་ཁྱེར་ལ་ཕྱག་འཚལ་ལོ།"]
ids = {
    "token_ids": np.array([[2, 20, 4, 30, 31, 3]]),
    "segment_ids": np.zeros((1, 6), "int32"),
    "padding_mask": np.ones((1, 6), "int32"),
    "mask_positions": np.array([[2, 3]]),
}
masked_lm = TibertMaskedLM.from_preset("run/champion")
masked_lm.save("masked_lm.keras")
np.savez(
    "logits.npz",
    masked_lm=keras.ops.convert_to_numpy(masked_lm(ids)),
    tagger=TibertTokenClassifier.from_preset("tagger/champion").predict(texts, verbose=0),
    classifier=TibertTextClassifier.from_preset("classifier/champion").predict(texts, verbose=0),
)
PY
# What resuming has to arrive at.
mv run/checkpoints/60/variables.npz last.npz
rm -r run/checkpoints/20 run/checkpoints/60 run/champion run/champion.json
sed -i '/^60,/d' run/history.csv
cat answers.txt
