"""A language model and a text from files, for the command line. Glossary: `lgmamba.hosts`."""

import json
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from lgmamba.extras import missing
from lgmamba.hosts.audit.passkey import Encode
from lgmamba.hosts.errors import HostError
from lgmamba.hosts.packages import package_of

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model")
"""Files of which every tokenizer has one."""
BYTES_A_TOKEN = 8
"""Text read for each token that is wanted, at most."""


def load_model(name: str, dtype: str, device: torch.device) -> nn.Module:
    """A checkpoint in a folder, of transformers or mamba_ssm; or by its name on the hub, where there is a network.

    Raises:
        HostError: no checkpoint there, quantised weights, or a package is missing; says which.
    """
    folder = Path(name)
    local = folder.is_dir()
    config = _config(folder) if local else {}
    if "quantization_config" in config:
        raise HostError(f"{folder / 'config.json'}: found quantised weights; expected float32, bfloat16 or float16")
    if local and "model_type" not in config and "d_model" in config:
        return _official(name, DTYPES[dtype], device)
    transformers = _transformers()
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(name, dtype=DTYPES[dtype], local_files_only=local)
    except (OSError, ValueError, SafetensorError) as e:  # the last: half a file
        expected = "a folder with config.json and model.safetensors, or the name of a model on the hub and a network"
        raise HostError(f"{name}: cannot be loaded; expected {expected}. transformers says: {_first_line(e)}") from None
    return model.to(device).eval()


def load_encoder(model: nn.Module, name: str, of_bytes: bool) -> Encode:
    """What makes token ids of text.

    Args:
        model, name: whose tokenizer it is, as in `load_model`.
        of_bytes: whether tokens are bytes, for a model that was trained on these.
    Raises:
        HostError: there is no tokenizer, or the vocabulary has no room for bytes.
    """
    if of_bytes:
        rows = package_of(model, False).embedding.weight.shape[0]
        if rows < 256:
            raise HostError(f"{name}: found a vocabulary of {rows}; expected 256 or more for a model of bytes")
        return lambda text: list(text.encode())
    local = Path(name).is_dir()
    none = f"{name}: found no tokenizer; expected tokenizer.json beside the weights, or --bytes for a model of bytes"
    if local and not any(
        (Path(name) / file).is_file() for file in TOKENIZERS
    ):  # transformers would make one that knows no word
        raise HostError(none)
    try:
        tokenizer = _transformers().AutoTokenizer.from_pretrained(name, local_files_only=local)
    except (OSError, ValueError, KeyError) as e:
        raise HostError(f"{none}. transformers says: {_first_line(e)}") from None
    return lambda text: tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]


def load_tokens(encode: Encode, texts: list[Path], wanted: int) -> Tensor:
    """Token ids (L,) of text files, and of the *.txt files of folders, one after the other, until there are enough.

    Args:
        texts: files and folders; none: the sources of Python's standard library, which every machine has.
        wanted: tokens.
    Raises:
        HostError: a file is no text, or there is none in them.
    """
    content = _read(texts, wanted * BYTES_A_TOKEN).decode("utf-8", "replace")
    if not content:
        raise HostError(f"{', '.join(map(str, texts))}: found no text; expected text files in UTF-8")
    return torch.tensor(encode(content)[:wanted])


def _read(texts: list[Path], most: int) -> bytes:
    files = _sources() if not texts else (file for path in texts for file in _text_files(path))
    parts, size = [], 0
    for file in files:
        parts.append(file.read_bytes())
        if b"\0" in parts[-1][:4096]:
            raise HostError(f"{file}: found bytes that are no text; expected a text file in UTF-8")
        size += len(parts[-1])
        if size >= most:
            break
    return b"\n".join(parts)


def _sources() -> Iterator[Path]:
    """Of Python's standard library: modules, then packages."""
    library = Path(sysconfig.get_path("stdlib"))
    yield from sorted(library.glob("*.py"))
    yield from sorted(p for p in library.glob("*/**/*.py") if not {"site-packages", "test", "tests"} & set(p.parts))


def _text_files(path: Path) -> list[Path]:
    files = sorted(path.rglob("*.txt")) if path.is_dir() else [path]
    if not files:
        raise HostError(f"{path}: found no *.txt in this folder; expected text files, or folders with some")
    return files


def _config(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise HostError(f"{folder}: found no config.json; expected a folder that save_pretrained wrote") from None
    except json.JSONDecodeError as e:
        raise HostError(f"{folder / 'config.json'}: expected JSON; {e}") from None


def _official(name: str, dtype: torch.dtype, device: torch.device) -> nn.Module:
    try:
        from mamba_ssm.models.mixer_seq_simple import MambaLMHeadModel
    except ImportError as e:
        raise HostError(
            f"{name}: a checkpoint of mamba_ssm, which cannot be imported here ({e}); pip install mamba-ssm"
        ) from None
    return MambaLMHeadModel.from_pretrained(name, device=str(device), dtype=dtype).eval()


def _transformers() -> Any:
    try:
        import transformers
    except ImportError:
        raise HostError(missing("transformers")) from None
    return transformers


def _first_line(e: Exception) -> str:
    return str(e).strip().splitlines()[0] if str(e).strip() else type(e).__name__
