"""A public peer in an environment of its own: SAELens' top-k autoencoder on the samples that ours are trained on.

Letters: B samples, L latents, C channels.
"""

import json
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file
from torch import Tensor

SCRIPT = Path(__file__).with_name("saelens_peer.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerOptions:
    """How SAELens trains."""

    channels: int
    latents: int
    k: int
    batch: int
    steps: int
    learning_rate: float
    seed: int = 0
    device: str = "cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Autoencoder:
    """A top-k autoencoder: z = topk(x W_enc + b_enc), what is kept and positive; xhat = z W_dec + b_dec."""

    W_enc: Tensor
    """(C, L)."""
    b_enc: Tensor
    W_dec: Tensor
    """(L, C)."""
    b_dec: Tensor
    k: int

    def encode(self, acts_BC: Tensor) -> Tensor:
        """(B, L)."""
        pre_BL = acts_BC @ self.W_enc + self.b_enc
        value_BK, place_BK = pre_BL.topk(self.k, dim=1)
        return torch.zeros_like(pre_BL).scatter_(1, place_BK, value_BK.relu())

    def decode(self, code_BL: Tensor) -> Tensor:
        """(B, C)."""
        return code_BL @ self.W_dec + self.b_dec


def train_peer(python: Path, options: PeerOptions, batches: Iterable[Tensor]) -> Autoencoder:
    """SAELens' autoencoder after one step on each batch (B, C), trained by the Python that has it.

    Raises:
        ValueError: that Python cannot be started, or what it ran failed; its last line is told.
    """
    with TemporaryDirectory() as folder:
        settings, weights, log = (Path(folder) / name for name in ("options.json", "weights.safetensors", "log.txt"))
        settings.write_text(json.dumps(asdict(options)))
        code = _run([str(python), str(SCRIPT), str(settings), str(weights)], batches, log, folder)
        if code != 0:
            said = log.read_text(errors="replace").strip().splitlines() or ["nothing"]
            remedy = "Give --peer a Python with sae-lens, or leave it out."
            raise ValueError(f"peer: {python} ended with code {code} and said {said[-1][:200]!r}. {remedy}")
        return Autoencoder(**load_file(weights), k=options.k)


def _run(command: list[str], batches: Iterable[Tensor], log: Path, folder: str) -> int:
    try:
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=output, cwd=folder)
    except OSError as error:
        raise ValueError(f"peer: {command[0]} cannot be started ({error.strerror}), expected a Python") from error
    with process:
        assert process.stdin is not None, "it was asked for"
        try:
            for acts_BC in batches:
                process.stdin.write(acts_BC.cpu().numpy().tobytes())
            process.stdin.close()
        except BrokenPipeError:
            pass  # it ended early: its code and its log tell why
        return process.wait()
