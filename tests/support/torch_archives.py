"""Archives as `torch.save` writes them, without PyTorch."""

from __future__ import annotations

import io
import pickle
import zipfile


class Call:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def archive(state, *, compression=zipfile.ZIP_STORED, others=(), **files):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as file:
        file.writestr("archive/data.pkl", state if isinstance(state, bytes) else pickle.dumps(state, protocol=2))
        for name, data in [*((f"data/{name}", data) for name, data in files.items()), *others]:
            file.writestr(f"archive/{name}", data)
    return content.getvalue()
