"""The libraries that curated rows are given to: the example for each, and the environment that it runs in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples" / "learners"
TORCH = "torch==2.13.0"  # on Linux without CUDA, this alone is small


@dataclass(frozen=True)
class Library:
    """How a library is tried.

    Attributes:
        name: as its users write it.
        example: file in ``EXAMPLES``.
        source: what is scored: "rows", or its own format.
        file_format: of ``reweight``.
        needs: module that must be there.
        steps: arguments of pip that make its environment; none where it goes with our own.
    """

    name: str
    example: str
    source: str
    file_format: str
    needs: str
    steps: tuple[tuple[str, ...], ...] = ()


LIBRARIES = {
    "corl": Library("CORL's scripts", "corl.py", "rows", "npz", "torch"),
    "torch": Library("torch", "torch_loop.py", "rows", "parquet", "torch"),
    "d3rlpy": Library("d3rlpy 2.8", "d3rlpy_iql.py", "rows", "parquet", "d3rlpy"),
    "datasets": Library("datasets", "huggingface_datasets.py", "rows", "parquet", "datasets"),
    "torchrl": Library("TorchRL 0.14", "torchrl_td3bc.py", "rows", "npz", "torchrl"),
    "tianshou": Library(
        "tianshou 2.0", "tianshou_td3bc.py", "rows", "npz", "tianshou", ((TORCH, "tianshou==2.0.1"),)
    ),
    "imitation": Library(
        "imitation 1.0",
        "imitation_bc.py",
        "rows",
        "parquet",
        "imitation",
        ((TORCH, "imitation==1.0.1", "pyarrow", "pandas"),),
    ),
    "robomimic": Library(
        "robomimic 0.3",
        "robomimic_bc.py",
        "robomimic",
        "weights",
        "robomimic",
        (
            (TORCH, "h5py", "psutil", "tqdm", "termcolor", "tensorboardX", "imageio", "imageio-ffmpeg"),
            ("matplotlib", "six", "requests", "pillow", "pandas", "pyarrow"),
            # Its torchvision would want CUDA's torch; of this one only the part in Python is used.
            ("--no-deps", "robomimic==0.3.0", "torchvision==0.16.0"),
        ),
    ),
    "lerobot": Library(
        "LeRobot 0.4",
        "lerobot_bc.py",
        "lerobot",
        "lerobot",
        "lerobot",
        (
            (TORCH, "numpy<2.4", "datasets>=4,<5", "huggingface-hub<0.36", "av<16", "accelerate<2"),
            ("draccus==0.10.0", "termcolor", "pillow", "pandas"),
            ("--no-deps", "lerobot==0.4.4", "torchvision==0.16.0"),
        ),
    ),
}
