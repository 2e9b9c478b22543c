"""A websocket server for live captions, its web page and its client; `PROTOCOL.md` says what they speak."""
