"""Storms: many threads, descriptors, connections and timers at once, and nothing lost."""
