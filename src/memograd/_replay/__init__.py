"""Act three, within backward: gradients through what is remembered.

A recorded call is one node of the graph. Its inputs are the tensors among the arguments and every parameter that the
call has read; what lies between is a graph of its own, which runs back once for all who use the result.

Of a sequence, steps are run again within backward: `_plan` says which states to keep in how many bytes, `_interpreter`
goes forward and back by it, `_meter` measures, `_spill` keeps states in a file.
"""

from memograd._replay._live import Lives, Recorded, Twice, record
from memograd._replay._recompute import recompute
from memograd._replay._recording import GONE, Plan, Recording
from memograd._replay._refuse import watched_by_others, why_not
from memograd._replay._run import Scope, connected, inside, needs_stand_ins
from memograd._replay._signature import signature
from memograd._replay._trees import Seen

__all__ = [
    "GONE",
    "Lives",
    "Plan",
    "Recorded",
    "Recording",
    "Scope",
    "Seen",
    "Twice",
    "connected",
    "inside",
    "needs_stand_ins",
    "recompute",
    "record",
    "signature",
    "watched_by_others",
    "why_not",
]
