"""What comes back cannot be spoiled: a result is kept as a copy of its own, and every hit is given another.

`_keep` is the door. `_kinds` knows in which of the three `_ways` values of each type are copied (`_containers` those of
the language), `_numpy` and `_torch` how memory is. `_plan` writes down, once, what a copy of one result takes.
`_places` finds the parts that are parts of the arguments, which come back as parts of the arguments of the hit.
`_witness` tells whether a call has changed what it was given.
"""
