"""What steps give each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Outputs = Mapping[str, Any]
"""The outputs of the steps before, by name; None of a step that was skipped or gave nothing."""
