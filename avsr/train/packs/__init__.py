"""Corpora on disk as the engine sees and hears them, small and ready to train from."""
