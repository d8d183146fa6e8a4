"""`memo.rows(f)`: a row of a batch as the unit. Equal rows are computed once; those seen before are not computed."""
