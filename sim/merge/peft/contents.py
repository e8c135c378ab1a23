"""What a file is that its name does not say: told by how it begins, with what to do."""

import re

NO_TENSORS = "not safetensors; never unpickled: save it as safetensors"

BEGINNING = 512
"""Bytes of a file that tell what it is."""

BEGINNINGS = (
    (
        rb"version https://git-lfs\.github\.com/",
        "is a Git LFS pointer, not the file: run git lfs pull in its repository, or download the raw file",
    ),
    (
        rb"(\xef\xbb\xbf)?\s*<(!doctype|html|head|\?xml|!--)",
        "is a web page, not the file: download the raw file (on the Hugging Face hub /resolve/, not /blob/)",
    ),
    (rb"\Z", "is empty: copy it again"),
    (rb"\x1f\x8b", "is a gzip archive: unpack it"),
    (rb"PK\x03\x04", f"is a zip archive (a torch.save file?), {NO_TENSORS}"),
    (rb"\x80", f"is a pickle, {NO_TENSORS}"),
    (rb"GGUF", "is a GGUF file, not safetensors: take the adapter that it was converted from"),
)
"""How a file begins -> what it is and what to do. A sound file may begin so by chance."""


def identify(head: bytes) -> str:
    """What a file that could not be read is, by its first bytes, and what to do; empty if unknown."""
    for pattern, meaning in BEGINNINGS:
        if re.match(pattern, head, re.IGNORECASE):
            return meaning
    return ""
