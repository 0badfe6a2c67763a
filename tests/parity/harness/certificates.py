"""A certificate authority for the tests, and contexts that trust it."""

from __future__ import annotations

import functools
import ssl
from pathlib import Path

import trustme

HOST = "localhost"


@functools.cache
def authority() -> trustme.CA:
    """Return the authority, which is made once."""
    return trustme.CA()


@functools.cache
def _server_certificate(name: str) -> trustme.LeafCert:
    return authority().issue_cert(name)


@functools.cache
def _client_certificate() -> trustme.LeafCert:
    return authority().issue_cert("client@example.org")


def server_context(name: str = HOST) -> ssl.SSLContext:
    """Return a new context for a server of this name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _server_certificate(name).configure_cert(context)
    return context


def client_context(*, certificate: bool = False) -> ssl.SSLContext:
    """Return a new context for a client, which may have a certificate of its own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority().configure_trust(context)
    if certificate:
        _client_certificate().configure_cert(context)
    return context


def demanding_context() -> ssl.SSLContext:
    """Return a new context for a server that wants to see its clients' certificates."""
    context = server_context()
    authority().configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def as_environment(folder: Path) -> dict[str, str]:
    """Return where a program of its own finds a server's certificate and its authority's."""
    chain, trusted = folder / "server.pem", folder / "authority.pem"
    _server_certificate(HOST).private_key_and_cert_chain_pem.write_to_path(str(chain))
    authority().cert_pem.write_to_path(str(trusted))
    return {"SERVER_PEM": str(chain), "AUTHORITY_PEM": str(trusted)}
