"""Where results are kept: any `MutableMapping` from keys to results; `_memory` is the one used by default."""
