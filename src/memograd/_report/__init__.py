"""What a person sees of a store: entries chosen by a filter, as tables and as data."""
