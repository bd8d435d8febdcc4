"""What several tests share: paths, quiet threads, and the corpora."""

import os
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
MIRRORS = (os.environ.get("SCRATCHLM_MIRROR"), ROOT.parent / "shared/data")


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Tests run one thread each: the runner uses the cores."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shakespeare(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Tiny Shakespeare, from a mirror folder or from its public address."""
    from scratchlm.text.corpus import get

    mirror = next((Path(m) for m in MIRRORS if m and Path(m).is_dir()), None)
    folder = tmp_path_factory.mktemp("data")
    try:
        path = get("shakespeare", folder, mirror=mirror)
    except (OSError, ValueError) as error:
        pytest.skip(f"tiny Shakespeare is out of reach: {error}")
    return path.read_text(encoding="utf-8")
