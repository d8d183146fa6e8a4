"""What tests of programs that use memograd need, and memograd's own.

`StoreContract` is what every store does, as tests. They need no test framework; pytest finds them by their names.
"""

from memograd.testing._clock import FakeClock
from memograd.testing._contract import StoreContract

__all__ = ["FakeClock", "StoreContract"]
