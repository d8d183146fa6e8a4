"""``memo.scan(cell)``: any cell ``cell(x_t, carry) -> (y_t, carry)`` along a sequence, as JAX's ``lax.scan`` has it.

A cell is a module or a function; what it takes and gives may be nested. Within a budget its steps are pieces of a plan
(``_replay._plan``), and what the cell reads besides (weights, tensors of its closure) is found by a look at one step.
"""
