"""The door to the verbs: a `Memo` remembers, and each verb says what the unit is."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


class Memo:
    """Remember what a program has already computed."""

    def scan(self, module: nn.Module, *, engine: str = "auto") -> nn.Module:
        """Wrap a recurrent module so that every prefix which rows of a batch share is computed once.

        Args:
            module: an `nn.RNN`, `nn.LSTM` or `nn.GRU`; its parameters are shared, not copied.
            engine: how the distinct steps are run; "auto" chooses by device and shape.

        Returns:
            A module with the same signature, the same `state_dict` keys and the same outputs.

        Raises:
            TypeError: the module is not recurrent.

        Example:
            >>> from torch import nn  # doctest: +SKIP
            >>> lstm = memo.scan(nn.LSTM(64, 256, batch_first=True))  # doctest: +SKIP
        """
        from memograd._scan._scan import scan

        return scan(module, engine=engine)


memo = Memo()
