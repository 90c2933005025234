"""Where settings, store, core and HTTP are put together into processes."""
