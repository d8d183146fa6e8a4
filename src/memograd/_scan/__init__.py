"""Memoize states along a sequence: ``memo.scan(rnn)``."""
