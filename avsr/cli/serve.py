"""``avsr serve``: live captions in the browser and for other programs."""

from __future__ import annotations

import os
import re
import socket
import ssl
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from avsr.cli.interrupt import until_interrupted
from avsr.cli.options import DeviceOption, LmOption, ModelOption, ThreadsOption
from avsr.cli.output import note
from avsr.errors import ConfigError, DeviceError, MissingExtraError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://([a-z0-9._-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?/?")
DEFAULT_PORTS = {"http": 80, "https": 443}
"""Browsers leave them out."""


def run(
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Address to listen on; 0.0.0.0 means all.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 picks a free one.")] = 8765,
    model: ModelOption = None,
    lm: LmOption = None,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = 1,
    max_sessions: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Maximum number of streams; further clients get `busy`.")
    ] = None,
    max_speed: Annotated[
        float, typer.Option(metavar="X", help="Speed limit for clients, in multiples of real time.")
    ] = 2.0,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="AVSR_TOKEN", metavar="SECRET", help="Token that clients must send; better set AVSR_TOKEN."
        ),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="Let pages of this origin connect, e.g. https://example.org; repeatable."),
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option(metavar="FILE", help="TLS certificate (PEM); remote browsers need one.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Private key of the certificate (PEM, without password).")
    ] = None,
    log_text: Annotated[bool, typer.Option("--log-text", help="Write the recognised text to the log.")] = False,
) -> None:
    """Serve live captions to browsers and other programs.

    The web page is at /, the websocket at /ws (see avsr/serve/PROTOCOL.md).
    """
    try:
        import fastapi  # noqa: F401
        import uvicorn
        import websockets  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(f"avsr serve needs {error.name}; install it with: pip install 'avsr[serve]'") from error
    if (certificate is None) != (key is None):
        raise ConfigError("--certificate and --key belong together; give both or neither")
    if not 1 <= max_speed <= 1000:  # so that what is no number is refused too
        raise ConfigError(f"--max-speed {max_speed:g}: give a number from 1 to 1000")
    if not host:
        raise ConfigError("--host is empty, which would listen everywhere; give 0.0.0.0 for that, or leave it out")
    if token is not None and not token.strip():
        raise ConfigError("--token is empty, which would let everybody in; give a secret, or leave it out")
    allowed_origins = [checked_origin(text) for text in allow_origin or ()]
    if certificate is not None and key is not None:
        check_certificate(certificate, key)

    from avsr.serve.limits import DEFAULT_MAX_SESSIONS, Limits

    limits = Limits(max_sessions=max_sessions or DEFAULT_MAX_SESSIONS, max_speed=max_speed)
    # A second fence behind `check_picture`; OpenCV looks for it only once, when it is imported.
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(limits.max_picture_side**2))

    from avsr.recognizer import load_model
    from avsr.serve.app import create_app
    from avsr.serve.service import Service
    from avsr.serve.transport import web_config

    listener = listen(host, port)  # before the model is loaded, which takes a while: a port may be taken
    recognizer = load_model(model, lm=lm, device=device, threads=threads)
    for chunk_ticks in recognizer.bundle.config.model.chunk_sizes:  # now, so that no client waits for it
        recognizer.traced.prepare(chunk_ticks, sees=True)
    service = Service(recognizer, limits, token=token, logs_text=log_text)
    app = create_app(service, allowed_origins=allowed_origins)
    server = uvicorn.Server(
        web_config(
            app,
            limits,
            timeout_graceful_shutdown=5,
            log_level="warning",
            ssl_certfile=certificate,
            ssl_keyfile=key,
        )
    )
    scheme = "http" if certificate is None else "https"
    shown_host = host if ":" not in host else f"[{host}]"
    note(
        f"captions at {scheme}://{shown_host}:{listener.getsockname()[1]}/{'#token=…' if token else ''}  (Ctrl-C stops)"
    )
    if host not in LOOPBACK:
        note(exposure(host, has_token=token is not None, has_tls=certificate is not None))
    with until_interrupted(partial(setattr, server, "should_exit", True)):  # uvicorn hears no SIGHUP
        server.run(sockets=[listener])


def checked_origin(text: str) -> str:
    """Return an origin as browsers send it: "https://example.org", in small letters, with no slash behind it.

    Raises:
        ConfigError: it is none, and so would never match; or it is "null", which pages of any site can come from.
    """
    parts = ORIGIN.fullmatch(text.strip().lower())
    if parts is None or int(parts[3] or 0) > 65535:
        raise ConfigError(
            f"--allow-origin {text!r} is not the origin of a web page; give one like https://example.org or "
            "http://localhost:3000, without a path"
        )
    scheme, host, port = parts.groups()
    is_default = port is None or int(port) == DEFAULT_PORTS.get(scheme)
    return f"{scheme}://{host}" if is_default else f"{scheme}://{host}:{int(port)}"


def check_certificate(certificate: Path, key: Path) -> None:
    """Load both as the server will, so that wrong files are reported before the model is loaded.

    Raises:
        ConfigError: they cannot be read, are no PEM files, do not belong together, or the key asks for a password.
    """

    def refuse() -> str:
        raise ConfigError(f"{key}: the key is protected by a password; give one without")

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=refuse)
    except OSError as error:  # of TLS, too
        raise ConfigError(
            f"{certificate} and {key} cannot be used for TLS: {error.strerror or error}; give a certificate and its "
            "key as PEM files"
        ) from error


def listen(host: str, port: int) -> socket.socket:
    """Listen on a port; clients that connect from now on wait until the server accepts them.

    Raises:
        DeviceError: it is taken, or there is no such address here.
    """
    is_v6 = ":" in host
    family = socket.AF_INET6 if is_v6 else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, dualstack_ipv6=is_v6 and socket.has_dualstack_ipv6())
    except (OSError, TypeError) as error:  # TypeError: the host cannot be encoded
        reason = error.strerror if isinstance(error, OSError) else error
        raise DeviceError(f"cannot listen on {host}:{port}: {reason}; choose another --host or --port") from error


def exposure(host: str, *, has_token: bool, has_tls: bool) -> str:
    """Say what listening beyond this machine means."""
    who = "anyone who can reach this machine" if host in ("0.0.0.0", "::") else f"anyone who can reach {host}"
    use = "and knows the token can" if has_token else "can, without a token,"
    seen = "" if has_tls else " Without --certificate, audio, video and text are sent unencrypted."
    browser = "" if has_tls else " Browsers on other machines then deny the page camera and microphone."
    open_network = " On an open network, use a reverse proxy that limits connections."
    return f"warning: {who} {use} send audio and video here and use this machine's CPU.{seen}{browser}{open_network}"
