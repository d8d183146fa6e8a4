"""What a result may depend on beside code and arguments: the modes of the moment, and the random streams."""
