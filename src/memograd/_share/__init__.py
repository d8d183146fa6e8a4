"""Act two, within one call: group equal work, compute the distinct, spread the results."""
