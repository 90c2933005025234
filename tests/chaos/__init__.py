"""A pair of real nodes under load, killed as often as wanted: ``make chaos KILLS=100``."""
