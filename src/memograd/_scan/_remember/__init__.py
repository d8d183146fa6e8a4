"""``memo.scan(rnn, remember=True)``: a prefix that was seen in an earlier call is resumed, not recomputed.

A row is named by a chain of digests over blocks of its inputs, ``key(p + block) = H(key(p), block)``, as vLLM names
blocks of attention (Kwon et al. 2023). A recurrent state stands for a whole prefix, so that few of them are worth
keeping: ends, branch points and a sparse ladder (Marconi, Pan et al. 2024). Off unless asked for, and under ``no_grad``
alone.
"""
