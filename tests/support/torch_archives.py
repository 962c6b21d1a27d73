"""Archives as `torch.save` writes them, which may hold what it would not write."""

import io
import pickle
import zipfile


class Call:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def archive(state, **files):
    """A `.bin` file with this object, or this pickle, and storages by their keys."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr("archive/data.pkl", state if isinstance(state, bytes) else pickle.dumps(state, protocol=2))
        file.writestr("archive/version", "3\n")
        for name, data in files.items():
            file.writestr(f"archive/data/{name}", data)
    return content.getvalue()
