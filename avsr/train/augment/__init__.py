"""Augmentation: noise, rooms, other speeds, poor microphones and cameras, missing senses."""
