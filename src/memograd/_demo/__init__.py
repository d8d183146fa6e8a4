"""What `memograd demo` shows: two programs, each run as people write it and memoized, side by side."""
