"""flower-digits: a Flower app on fedfast."""
