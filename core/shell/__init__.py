"""Shell files: one place per kind of IO; each is a pump that reads, asks a pure object, and performs."""
