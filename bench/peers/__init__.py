"""Other systems and other ways, started beside ours in the same run."""
