"""The one file, the one commit thread, and the ring that ties them to the pure half."""
