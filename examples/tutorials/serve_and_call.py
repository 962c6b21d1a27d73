# %% [markdown]
# # Serve a model and call it from a client
#
# A SavedModel takes strings. `tibert serve` answers the requests of TensorFlow Serving's REST API, so every client of
# TensorFlow Serving can ask it, and TensorFlow Serving itself serves the same folder.

# %%
import json
import subprocess
import sys
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import tensorflow as tf
from tensorflow_serving.apis.predict_pb2 import PredictRequest

from tibert_keras.saved_model.export import export_saved_model

# %% [markdown]
# ## Export
#
# Any will do; this one comes with the package. In a terminal: `tibert export --model=tibert_small_derge
# --output_dir=models/tibert --versioned`.

# %%
export_saved_model("tibert_small_derge", "models/tibert/1")

# %% [markdown]
# ## Without a server
#
# `serving_default` fills masks. There are also `tokenize`, `masked_lm` and `encode`.

# %%
TEXT = "བཅོམ་ལྡན་[MASK]ལ་ཕྱག་འཚལ་ལོ།"
signatures = tf.saved_model.load("models/tibert/1").signatures
answer = signatures["serving_default"](tf.constant([TEXT]))
print(sorted(signatures))
print([piece.decode() for piece in answer["pieces"][0, 0].numpy()])

# %% [markdown]
# ## Start the server
#
# In a terminal: `tibert serve models/tibert`. It prints its address when it is ready; there is the page for filling
# gaps, too. Here a free port is taken.

# %%
command = [sys.executable, "-m", "tibert_keras.cli", "serve", "models/tibert", "--port=0"]
server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
address = server.stdout.readline().strip()


def ask(path: str, body: dict | None = None) -> dict:
    """Ask the server; a body makes it a POST request."""
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(f"{address}/v1/models/tibert{path}", data, {"Content-Type": "application/json"})) as reply:
        return json.load(reply)


ask("")

# %% [markdown]
# ## TensorFlow Serving's requests
#
# By rows, `instances` and `predictions`, or by columns, `inputs` and `outputs`:

# %%
ask(":predict", {"instances": [TEXT]})

# %%
encoded = ask(":predict", {"signature_name": "encode", "inputs": [TEXT.replace("[MASK]", "འདས་")]})["outputs"]
{name: tf.constant(values).shape for name, values in encoded.items()}

# %% [markdown]
# Our own request fills gaps of whole syllables:

# %%
ask(":fillGaps", {"texts": ["བཅོམ་ལྡན་[GAP:1-2]་ལ་ཕྱག་འཚལ་ལོ།"], "top_k": 3})

# %% [markdown]
# What is wrong with a request is said in its answer:

# %%
try:
    ask(":predict", {"instances": [7]})
except HTTPError as error:
    print(error.code, json.load(error)["error"])

# %%
server.terminate()
server.wait(timeout=60)

# %% [markdown]
# ## TensorFlow Serving, with gRPC
#
# The folder `models/tibert` is what the stock server expects:
#
#     docker run -p 8500:8500 -v "$PWD/models/tibert:/models/tibert" -e MODEL_NAME=tibert tensorflow/serving
#
# Its clients send a `PredictRequest`:

# %%
request = PredictRequest()
request.model_spec.name, request.model_spec.signature_name = "tibert", "serving_default"
request.inputs["text"].CopyFrom(tf.make_tensor_proto([TEXT]))
print(request)

# %% [markdown]
# ```python
# from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub
#
# stub = PredictionServiceStub(grpc.insecure_channel("localhost:8500"))
# pieces = tf.make_ndarray(stub.Predict(request, timeout=10).outputs["pieces"])
# ```
#
# Versions, tokens, limits and what the server promises: [serve a model](../how_to/serve.md).
