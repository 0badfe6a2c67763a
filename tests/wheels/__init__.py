"""The wheel, as users get it."""
