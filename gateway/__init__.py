"""The HTTP face of Titanic: a client of the node, with no state of its own."""
