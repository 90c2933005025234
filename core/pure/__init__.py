"""Pure files: told the time and the ids, they say what should happen and touch no IO."""
