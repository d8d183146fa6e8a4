"""What a value *is*: its content, written so that no two different values write the same bytes."""
