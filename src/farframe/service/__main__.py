"""``python -m farframe.service``: read the configuration, put everything together, serve until told to end.

config -> folder and lock -> certificates -> store -> ports -> fleet -> listeners -> connection.json
and back: listeners -> sessions -> fleet -> store
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import structlog
import uvloop

from farframe import __version__
from farframe.auth.certificates import CertificateError, CertificateFiles
from farframe.auth.tokens import export_jwks
from farframe.fleet.local import LocalFleet, LocalFleetConfig
from farframe.protocol.link import FetchPolicy
from farframe.service.addresses import host_in_url
from farframe.service.app import Service
from farframe.service.clock import Clock, SystemClock
from farframe.service.config import ConfigError, ServiceConfig, load_config, parse_address
from farframe.service.conversion_secrets import KEY_FILE_NAME, KeyFileError, Sealer
from farframe.service.conversion_workers import ConversionWorkers
from farframe.service.identity import (
    DATABASE_NAME,
    ConnectionFile,
    ConnectionKeeper,
    DataFolderLock,
    OperatorFile,
    StartError,
    ensure_account,
    ensure_operator_token,
    ensure_signing_keys,
    prepare_folder,
    write_connection_file,
    write_operator_file,
)
from farframe.service.listeners import Listener, ListenError, bind
from farframe.service.logs import configure_logging
from farframe.service.operations import metrics_app
from farframe.service.replicas import ensure_replica_id
from farframe.service.tls import ServedCertificates
from farframe.service.tracing import Tracing, TracingError
from farframe.store.database import StoreError
from farframe.store.store import Store

log = structlog.get_logger("farframe.service")

CERTIFICATES_FOLDER = "certificates"
HTTP_HOST = "127.0.0.1"
_UNSPECIFIED = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound to


def main() -> int:
    """Run the service; returns the process's exit status."""
    try:
        config = load_config(os.environ)
    except ConfigError as error:
        print(f"farframe: {error}", file=sys.stderr)
        return 2
    configure_logging(config.log_level, config.log_format)
    os.umask(0o077)  # the database holds signing keys, the uploads what people made
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(config))
    except (StartError, TracingError, ListenError, CertificateError, StoreError) as error:
        print(f"farframe: {error}", file=sys.stderr)
        return 1
    return 0


async def run(config: ServiceConfig) -> None:
    """Serve until SIGTERM or SIGINT. Raises StartError, ListenError, CertificateError if it cannot start."""
    end = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sign in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sign, end.set)
    async with serving(config) as console_link:
        print(f"Console: {console_link}", flush=True)
        await end.wait()
        log.info("service.ending")


@asynccontextmanager
async def serving(config: ServiceConfig, clock: Clock | None = None) -> AsyncIterator[str]:
    """The whole service, from the lock to the connection file; yields a one-time link to the console."""
    clock = clock or SystemClock()
    folder = config.data_path
    async with AsyncExitStack() as stack:
        prepare_folder(folder)
        stack.callback(DataFolderLock(folder).release)
        certificates = ServedCertificates(
            folder / CERTIFICATES_FOLDER, certificate_names(config), given_certificate(config)
        )
        files = certificates.files
        store = await Store.open(config.database_url or folder / DATABASE_NAME)
        stack.push_async_callback(store.close)
        account_id, account_key = await ensure_account(store, folder, clock)
        operator_token = await ensure_operator_token(store, folder, clock)
        keys = await ensure_signing_keys(store, clock)

        https_socket = bind(config.host, config.port, "--port")
        stack.callback(https_socket.close)
        http_socket = bind(HTTP_HOST, config.http_port, "--http-port")
        stack.callback(http_socket.close)
        fleet = LocalFleet(fleet_config(config, files, export_jwks(keys)))
        workers = conversion_workers(config, store)
        service = Service(
            config,
            fleet,
            store,
            signing_keys=keys,
            ca_file=files.ca,
            clock=clock,
            relay_transport=certificates.relay_transport(config.public_name),
            conversion_queue=workers,
            conversion_storage=workers.storage if workers is not None else None,
        )
        service.scheduler.add(certificates.job, periodic=True)
        stack.enter_context(_reloading(certificates))
        https = Listener(service.app, https_socket, certificates.context)
        http = Listener(service.app, http_socket, None)
        service.addresses.endpoint = endpoint_url(config, https.port)
        service.addresses.http_url = f"http://{HTTP_HOST}:{http.port}"
        tracing = Tracing.from_environment(os.environ, config.region)
        if tracing is not None:
            service.app.trace_with(tracing.request)
            stack.push_async_callback(asyncio.to_thread, tracing.close)
        # Registered first: a start that fails half-way must not leave servers behind.
        stack.push_async_callback(service.stop)
        await service.start()
        listeners = [https, http]
        if config.metrics_address:
            metrics_socket = bind(*parse_address(config.metrics_address), "metrics_address")
            stack.callback(metrics_socket.close)
            listeners.append(Listener(metrics_app(service.metrics.text), metrics_socket, None))
        for listener in listeners:
            await listener.start()
            stack.push_async_callback(listener.stop)
        # What is there by now stays: collections that look through all of it hold requests up for tens of milliseconds.
        gc.collect()
        gc.freeze()
        ca_bundle = str(files.ca) if certificates.own_authority else config.tls_ca_file
        operator_file = OperatorFile(
            endpoint=service.addresses.endpoint, operator_token=operator_token, ca_bundle=ca_bundle
        )
        await asyncio.to_thread(write_operator_file, folder, operator_file)
        service.accounts.on_key = ConnectionKeeper(folder)
        await asyncio.to_thread(
            write_connection_file,
            folder,
            ConnectionFile(
                endpoint=service.addresses.endpoint,
                sts_endpoint=service.addresses.endpoint,
                http_url=service.addresses.http_url,
                console_url=f"{service.addresses.http_url}/",
                account_id=account_id,
                account_key=account_key,
                account_domain=config.account_domain or config.public_name,
                ca_bundle=ca_bundle,
                region=config.region,
            ),
        )
        code, _ = await service.links.create(account_id)
        log.info(
            "service.serving",
            version=__version__,
            endpoint=service.addresses.endpoint,
            http_url=service.addresses.http_url,
            data=str(folder),
            servers=config.servers,
        )
        yield f"{service.addresses.http_url}/#link={code}"


def conversion_workers(config: ServiceConfig, store: Store) -> ConversionWorkers | None:
    """The workers of this service, if it has any. Raises StartError."""
    if config.conversion_workers == 0:
        return None
    given = config.conversion_key_file
    try:
        sealer = Sealer.of_file(Path(given) if given else config.data_path / KEY_FILE_NAME, create=not given)
    except KeyFileError as error:
        raise StartError(str(error)) from None
    return ConversionWorkers(config, store, ensure_replica_id(config.data_path), sealer)


def certificate_names(config: ServiceConfig) -> list[str]:
    """Every name and address that clients may use for this machine."""
    names = [config.public_name, *config.public_addresses]
    if config.host not in _UNSPECIFIED:
        names.append(config.host)
    return names


def given_certificate(config: ServiceConfig) -> tuple[Path, Path] | None:
    """The pair of files to serve with, if the operator has one."""
    if not config.tls_certificate_file:
        return None
    return Path(config.tls_certificate_file), Path(config.tls_key_file)


@contextlib.contextmanager
def _reloading(certificates: ServedCertificates) -> Iterator[None]:
    """Look at the certificate's files again on SIGHUP."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, lambda: loop.run_in_executor(None, certificates.reload) and None)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


def endpoint_url(config: ServiceConfig, port: int) -> str:
    """The https URL for everybody."""
    return config.public_url or f"https://{host_in_url(config.public_name)}:{port}"


def fleet_config(config: ServiceConfig, files: CertificateFiles, token_keys: str) -> LocalFleetConfig:
    """What the local fleet needs of the service's configuration."""
    return LocalFleetConfig(
        data_dir=config.data_path,
        certificate_file=files.certificate,
        key_file=files.key,
        token_keys=token_keys,
        token_issuer=config.token_issuer,
        servers=config.servers,
        warm_servers=config.warm_servers,
        bind_host=config.host,
        public_name=config.public_name,
        public_addresses=config.public_addresses,
        port_min=config.port_min,
        port_max=config.port_max,
        stun_servers=config.stun_servers,
        adapter=config.adapter,
        fetch=FetchPolicy(
            allowed_folders=config.allowed_folders,
            allowed_networks=config.allowed_networks,
            ca_file=config.download_ca_file,
        ),
        max_bitrate=config.max_bitrate,
        background_conversion=config.background_conversion,
        checkerboard=config.checkerboard,
        resume_grace_seconds=config.resume_grace_seconds,
        max_spectators=config.max_spectators,
        orphan_timeout_seconds=config.orphan_timeout_seconds,
        log_level=config.log_level,
    )


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
