"""Captions for people: subtitle layout, caption files, and the live view in a terminal."""
