"""The application: every part of the service put together over one store, one fleet and one clock."""

from __future__ import annotations

from pathlib import Path

import httpx
import structlog
from litestar import Litestar

from farframe.auth.tokens import SigningKey, TokenIssuer, TokenVerifier, export_jwks
from farframe.fleet.base import Fleet
from farframe.service.access import Access
from farframe.service.accounts import Accounts
from farframe.service.addresses import Addresses
from farframe.service.audit import Audit
from farframe.service.clock import Clock, SystemClock, seconds
from farframe.service.config import ServiceConfig
from farframe.service.conversions import ConversionEngine, ConversionQueue, NoConversionWorkers, StorageGate
from farframe.service.description import description_routes
from farframe.service.exchange import on_exception
from farframe.service.frontier import Frontier
from farframe.service.keyring import Keyring
from farframe.service.links import Links
from farframe.service.metering import Metering
from farframe.service.oidc import OidcExchange
from farframe.service.operations import Health, Metrics, health_routes
from farframe.service.quotas import Quotas
from farframe.service.rates import RateLimits
from farframe.service.relays import TurnCredentials
from farframe.service.replicas import Supervision, ensure_replica_id
from farframe.service.revocation import Revocations
from farframe.service.routes_conversions import conversion_routes
from farframe.service.routes_extensions import ice_routes, link_routes, relay_routes, stream_routes, upload_routes
from farframe.service.routes_operator import OPERATOR_PREFIX, operator_routes
from farframe.service.routes_quotas import quota_routes
from farframe.service.routes_regions import region_routes
from farframe.service.routes_sessions import key_routes, session_routes, token_routes
from farframe.service.routes_usage import operator_usage_routes, usage_routes
from farframe.service.routes_web import PAGE_HEADERS, WebBundle, web_routes
from farframe.service.scheduler import Scheduler
from farframe.service.sessions import SessionEngine
from farframe.service.stream_relay import StreamRelays
from farframe.service.tls import relay_client, relay_tls
from farframe.service.uploads import UPLOADS_FOLDER, Uploads
from farframe.store.sessions import FORGOTTEN_AT_A_TIME
from farframe.store.store import Store

log = structlog.get_logger("farframe.service")

RELAY_TIMEOUT_SECONDS = 20.0
_MICROSECONDS_PER_HOUR = 3_600_000_000


class Service:
    """The control plane. ``app`` is the ASGI application; call :meth:`start` before serving it, :meth:`stop` after."""

    def __init__(
        self,
        config: ServiceConfig,
        fleet: Fleet,
        store: Store,
        *,
        signing_keys: list[SigningKey],
        ca_file: Path,
        clock: Clock | None = None,
        bundle: WebBundle | None = None,
        relay_transport: httpx.AsyncBaseTransport | None = None,
        conversion_queue: ConversionQueue | None = None,
        conversion_storage: StorageGate | None = None,
    ) -> None:
        self.config = config
        self.fleet = fleet
        self.store = store
        self.clock = clock or SystemClock()
        self.addresses = Addresses(public_url=config.public_url)
        self.issuer = TokenIssuer(signing_keys[0], config.token_issuer, lambda: seconds(self.clock))
        verifier = TokenVerifier(export_jwks(signing_keys), config.token_issuer, lambda: seconds(self.clock))
        self.limits = RateLimits(config.rate_limits, self.clock)
        strangers = RateLimits(config.rate_limits, self.clock)
        self.quotas = Quotas(config, store.quotas)
        self.keyring = Keyring(
            store.signing_keys,
            self.issuer,
            verifier,
            self.clock,
            rotation_seconds=config.signing_key_days * 24 * 3600,
            keys=signing_keys,
        )
        self.revocations = Revocations(store.accounts, self.clock, lambda: self.keyring.jwks)
        self.access = Access(verifier, self.limits, self.revocations, store.operators, strangers)
        self.audit = Audit(store.audit, self.clock)
        self.scheduler = Scheduler(self.clock)
        uploads_folder = config.data_path / UPLOADS_FOLDER
        self.sessions = SessionEngine(
            config,
            store,
            fleet,
            self.clock,
            uploads_folder=uploads_folder,
            due=self.scheduler.wake,
            replica_id=ensure_replica_id(config.data_path),
        )
        self.supervision = Supervision(
            config,
            store,
            fleet,
            self.sessions,
            self.clock,
            url=lambda: self.addresses.endpoint,
            wake_scheduler=self.scheduler.wake,
        )
        self.uploads = Uploads(config, uploads_folder, store.uploads, self.quotas, self.clock)
        store.conversions.region = config.region
        self.conversions = ConversionEngine(
            config,
            store.conversions,
            self.quotas,
            conversion_queue or NoConversionWorkers(),
            self.clock,
            conversion_storage,
            store.conversion_jobs,
        )
        self.links = Links(store.links, self.issuer, self.clock)
        store.sessions.region = config.region
        self.metering = Metering(store, self.clock)
        self.sessions.token_rules = self.revocations.rules_for_server
        self.accounts = Accounts(
            store, self.sessions, self.revocations, fleet, self.clock, wake_scheduler=self.scheduler.wake
        )
        self.scheduler.add(self.keyring.tend, periodic=True)
        self.scheduler.add(self.revocations.telling(fleet), periodic=True)
        self.scheduler.add(self.accounts.sweep, periodic=True)
        self.scheduler.add(self.sessions.expire)
        self.scheduler.add(self.uploads.expire)
        self.scheduler.add(self.supervision.tend, periodic=True)
        self.scheduler.add(self.links.expire, periodic=True)
        self.scheduler.add(self.conversions.tend, periodic=True)
        self.scheduler.add(self._forget_history, periodic=True)
        self.health = Health(store, fleet, self.scheduler)
        self.metrics = Metrics(store, self.health, config.servers, config.region, fleet)
        self._relay_client = relay_client(ca_file, relay_transport, RELAY_TIMEOUT_SECONDS)
        self.stream_relays = StreamRelays()
        exchange = OidcExchange(config.oidc, lambda: seconds(self.clock)) if config.oidc else None
        handlers = [
            *token_routes(self.access, store.accounts, self.issuer, self.limits, exchange),
            *session_routes(self.access, self.sessions, self.addresses),
            *conversion_routes(self.access, self.conversions, self.addresses),
            *upload_routes(self.access, self.uploads, self.addresses, self.scheduler.wake),
            *relay_routes(self.access, self.sessions, self._relay_client),
            *stream_routes(
                self.access, self.sessions, self.stream_relays, relay_tls(ca_file, relay_transport), config.cors_origins
            ),
            *ice_routes(
                self.access,
                self.sessions,
                TurnCredentials(config.turn_servers, config.turn_secret, config.turn_minutes),
                self.clock,
            ),
            *link_routes(self.access, self.sessions, self.links, self.issuer, self.addresses, self.clock),
            *usage_routes(self.access, self.metering),
            *operator_routes(self.access, self.accounts, store.audit, self.addresses),
            *operator_usage_routes(self.access.operator, self.metering, OPERATOR_PREFIX),
            *key_routes(self.access, self.keyring),
            *health_routes(self.health),
            *region_routes(self.access, config.region, config.regions, self.addresses, config.region_ca_files),
            *description_routes(self.access, PAGE_HEADERS),
            *quota_routes(self.access, self.quotas, self.accounts),
            *web_routes(bundle or WebBundle(), config.regions.values()),
        ]
        litestar = Litestar(
            route_handlers=handlers,
            openapi_config=None,
            logging_config=None,
            request_max_body_size=None,
            exception_handlers={Exception: on_exception},
            before_request=self.access.prepare,
        )
        self.app = Frontier(
            litestar, cors_origins=config.cors_origins, observe=self.metrics.observe, audit=self.audit.on_answer
        )

    async def start(self) -> None:
        """Start the fleet, settle what an earlier run left behind, begin to watch the time."""
        self.audit.start()
        await self.uploads.prepare()
        await self.fleet.start(self.sessions)
        await self.supervision.recover()
        self.scheduler.start()

    async def stop(self) -> None:
        """End this service's sessions and its fleet. With ``keep_sessions`` they live on for the next run to adopt."""
        await self.scheduler.stop()
        if self.config.keep_sessions:
            await self.fleet.stop(keep_sessions=True)
        else:
            await self.sessions.stop_all()
            await self.fleet.stop()
            await self.supervision.end()
        await self.sessions.settle()
        await self.conversions.stop()
        await self.audit.stop()
        await self._relay_client.aclose()

    async def _forget_history(self, now: int) -> int:
        """Ended sessions and conversions stay readable for some weeks after their creation; then they go, some at a
        time, so that requests and other jobs have their turn in between."""
        before = now - round(self.config.session_history_days * 24 * _MICROSECONDS_PER_HOUR)
        sessions = await self.store.sessions.forget_ended(before)
        conversions = await self.store.conversions.forget_ended(before)
        more = FORGOTTEN_AT_A_TIME in (sessions, conversions)
        return now if more else now + _MICROSECONDS_PER_HOUR
