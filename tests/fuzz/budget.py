"""How long the fuzzers run: half a minute in the suite, FUZZ_SECONDS elsewhere (`make fuzz`)."""

from __future__ import annotations

import os
from typing import Final

SECONDS: Final = float(os.environ.get("FUZZ_SECONDS", "30"))
