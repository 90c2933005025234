"""Codecs, arithmetic and decisions of the store; told the time, the randomness and the bytes."""
