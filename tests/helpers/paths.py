"""Where the checkout's folders are."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
TOOLS = ROOT / "tools"
GOLDEN = ROOT / "tests" / "golden"
