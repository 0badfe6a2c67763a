"""Memory: what is let go of is freed, cycles are collected, and repetition does not grow."""
