"""Load a SavedModel as TensorFlow Serving does, ask it, and save the answers; a process of its own."""

import json
import sys

import numpy as np
import tensorflow as tf
import tensorflow_text  # noqa: F401  (registers the tokenizer's ops)

if __name__ == "__main__":
    folder, texts, ids, answers = sys.argv[1:]
    loaded = tf.saved_model.load(folder)
    signatures = loaded.signatures
    batch = tf.constant(json.loads(texts))
    features = {name: tf.constant(value) for name, value in np.load(ids).items()}
    answered = {
        "fill_mask": signatures["serving_default"](text=batch),
        "encode": signatures["encode"](text=batch),
        "masked_lm": signatures["masked_lm"](**features),
    }
    arrays = {f"{name}/{key}": value.numpy() for name, given in answered.items() for key, value in given.items()}
    arrays["fill_mask/pieces"] = arrays["fill_mask/pieces"].astype("S")  # not as objects, which are pickled
    foreign = {name.partition(".")[0] for name in sys.modules} & {"keras_nlp", "keras_hub", "tibert_keras"}
    np.savez(answers, foreign=sorted(foreign), signatures=sorted(signatures), **arrays)
