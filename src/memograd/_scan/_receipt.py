"""What a call of a scan did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memograd._scan._budget import Within
    from memograd._scan._remember._prefixes import Resumed


@dataclass(frozen=True)
class Receipt:
    """What the last call did.

    Attributes:
        steps: recurrent steps that the plain call takes, per layer and direction; 0 where the plain module ran before
            they were counted.
        nodes: how many of them were computed: one for each distinct prefix, or all (``steps``) where the plain module
            ran. A direction that reads from the end, and layers above it or above a dropout, take steps of their own.
        engine: ``"levels"`` (over the trie, by own steps or the fused kernel), ``"pieces"`` (a cell within a budget) or
            ``"plain"`` (the module's own forward; of a cell, one step after the other).
        exact: ``"bits"`` where the results have the plain call's bits, else ``"rounding"``.
        reason: why the engine was chosen.
        within: how the call keeps within its budget; None where it has none, or nothing is to be taken back.
        resumed: what of the call was remembered; None where prefixes are not.
    """

    steps: int
    nodes: int
    engine: str
    exact: str
    reason: str
    within: Within | None = None
    resumed: Resumed | None = None
