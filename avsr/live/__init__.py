"""Live captions: devices in, one clock, captions out; whatever fails comes back by itself."""
