"""Which states of a sequence to remember: its end, where it branches off another, and a ladder in between. Pure."""

from __future__ import annotations

GAP = 512  # steps from one rung of the ladder to the next: the most that a divergence between two of them costs


def cuts(begin: int, end: int, branch: int, least: int) -> list[int]:
    """Say where to cut what is computed, and to remember the state.

    Args:
        begin, end: the steps that are computed.
        branch: where the sequence branches off one that was seen; 0 where nowhere.
        least: pieces are at least so long; shorter ones may round otherwise. The whole may be shorter.

    Returns:
        Ascending, the last one `end`.
    """
    rungs = range((begin // GAP + 1) * GAP, end, GAP)
    wanted = [branch] if begin < branch < end else []
    found: list[int] = []
    for at in sorted({*rungs, *wanted}, key=lambda at: (at not in wanted, at)):
        near = (begin, end, *found)
        if all(abs(at - other) >= least for other in near):
            found.append(at)
    return [*sorted(found), end]
