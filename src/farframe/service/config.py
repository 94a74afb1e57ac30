"""The service's configuration: a TOML file and ``FARFRAME_...`` environment variables, the latter winning.

A key that does not exist is refused by name, with the key that was probably meant. Every key is described in
``docs/configuration.md``; a test compares the two.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from farframe.paths import default_data_dir
from farframe.service.rates import DEFAULT_RATES
from farframe.service.relays import is_turn_server

ENVIRONMENT_PREFIX = "FARFRAME_"
CONFIG_VARIABLE = "FARFRAME_CONFIG"
"""Names the TOML file."""

PORT_RANGE_MIN, PORT_RANGE_MAX = 49152, 65534
"""Session ports lie in here: official clients may check it."""

SIZES = ("standard", "premium")

NO_LIMIT = -1
"""The value of a quota that is none."""

RATE_OPERATIONS = tuple(DEFAULT_RATES)
"""What has a rate limit of its own; ``other`` are all of Farframe's own routes that take a token."""

_OTHER_VARIABLES = frozenset(
    {"FARFRAME_CONFIG", "FARFRAME_CONNECTION", "FARFRAME_OPERATOR", "FARFRAME_DEBUG", "FARFRAME_TEST_MODELS"}
)
_ENVIRONMENT_SIMILARITY = 0.85
_UUID = re.compile(r"(?i)[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_ISSUER = re.compile(r"https://[^\s/?#@]+(/[^\s?#]*)?|http://(localhost|127\.0\.0\.1)(:\d+)?(/[^\s?#]*)?")

OIDC_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
"""How tokens of identity providers may be signed. Neither ``none`` nor the symmetric ``HS`` family is ever taken."""


class ConfigError(Exception):
    """The configuration cannot be used; the message names the key and says what it may hold."""


class OidcRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Lets those in whose token has all the claims of ``when``: into ``account``, or into the accounts that the claim
    ``account_claim`` names, with ``role``.
    """

    when: dict[str, str] = {}
    account: str = ""
    account_claim: str = ""
    role: Literal["Administrator", "Client", "Viewer"]


class OidcProvider(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An OpenID Connect provider whose tokens are taken in exchange for ours."""

    name: str
    issuer: str
    audiences: tuple[str, ...]
    rules: tuple[OidcRule, ...]
    algorithms: tuple[str, ...] = ()
    leeway_seconds: float = 60.0
    token_minutes: int = 1440
    ca_file: str = ""


class StorageCredentials(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What opens a storage account (azure) or a bucket (s3, gcs) without a signature in the request. ``key`` is the
    account's key, the secret access key, or a service account in JSON; ``repr`` does not show it. ``accounts`` are
    those of this service that may use it, all of them if there are none.
    """

    name: str
    kind: Literal["azure", "s3", "gcs"] = "azure"
    endpoint: str = ""
    region: str = ""
    key_id: str = ""
    key: str
    accounts: tuple[str, ...] = ()
    access: Literal["read", "write", "read-write"] = "read-write"

    def __repr__(self) -> str:
        return f"StorageCredentials(name={self.name!r}, kind={self.kind!r}, key='***')"


class ServiceConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings of the control plane and its local fleet, with their defaults."""

    data_dir: str = msgspec.field(default_factory=lambda: str(default_data_dir()))
    host: str = "127.0.0.1"
    port: int = 8443
    http_port: int = 8080
    public_name: str = "localhost"
    public_addresses: tuple[str, ...] = ()
    public_url: str = ""
    account_domain: str = ""
    region: str = "local"
    regions: dict[str, str] = msgspec.field(default_factory=dict)
    region_ca_files: dict[str, str] = msgspec.field(default_factory=dict)
    tls_certificate_file: str = ""
    tls_key_file: str = ""
    tls_ca_file: str = ""
    metrics_address: str = ""
    servers: dict[str, int] = msgspec.field(default_factory=lambda: {"standard": 2, "premium": 1})
    warm_servers: int = 1
    adapter: Literal["auto", "gpu", "cpu"] = "auto"
    port_min: int = PORT_RANGE_MIN
    port_max: int = PORT_RANGE_MAX
    stun_servers: tuple[str, ...] = ()
    turn_servers: tuple[str, ...] = ()
    turn_secret: str = ""
    turn_minutes: float = 60.0
    max_bitrate: int = 12_000_000
    allowed_folders: tuple[str, ...] = ()
    allowed_networks: tuple[str, ...] = ()
    download_ca_file: str = ""
    upload_quota_bytes: int = 5_000_000_000
    upload_file_bytes: int = 5_000_000_000
    upload_max_files: int = 10_000
    upload_retention_hours: float = 24.0
    session_history_days: float = 30.0
    linked_storage: tuple[str, ...] = ()
    storage_credentials: tuple[StorageCredentials, ...] = ()
    writable_folders: tuple[str, ...] = ()
    conversion_workers: int = 1
    conversion_memory_bytes: int = 8_000_000_000
    conversion_disk_bytes: int = 100_000_000_000
    conversion_seconds: float = 14_400.0
    conversion_key_file: str = ""
    background_conversion: bool = True
    checkerboard: bool = False
    resume_grace_seconds: float = 30.0
    max_spectators: int = 8
    quota_sessions: dict[str, int] = msgspec.field(default_factory=dict)
    quota_session_minutes: int = NO_LIMIT
    quota_conversions: int = 20
    rate_limits: dict[str, int] = msgspec.field(default_factory=dict)
    cors_origins: tuple[str, ...] = ()
    database_url: str = ""
    orphan_timeout_seconds: float = 30.0
    replica_timeout_seconds: float = 10.0
    keep_sessions: bool = False
    oidc: tuple[OidcProvider, ...] = ()
    signing_key_days: float = 30.0
    token_issuer: str = "farframe"  # noqa: S105 - a name, not a secret
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "console", "json"] = "auto"

    @property
    def data_path(self) -> Path:
        """The data folder as an absolute path."""
        return Path(self.data_dir).expanduser().absolute()

    def limit(self, size: str) -> int:
        """How many sessions of that size may be active at a time."""
        return self.servers.get(size.lower(), 0)


CONFIG_KEYS: tuple[str, ...] = ServiceConfig.__struct_fields__


def environment_name(key: str) -> str:
    """The environment variable of a key."""
    return ENVIRONMENT_PREFIX + key.upper()


def load_config(environment: Mapping[str, str], *, file: Path | None = None, **overrides: object) -> ServiceConfig:
    """Read the TOML file (``file``, else the one that ``FARFRAME_CONFIG`` names), then the environment, then
    ``overrides``; check everything. Raises :class:`ConfigError`.
    """
    values: dict[str, Any] = {}
    named = environment.get(CONFIG_VARIABLE)
    path = file or (Path(named).expanduser() if named else None)
    if path is not None:
        values.update(_read_toml(path))
    values.update(_read_environment(environment))
    for key, value in overrides.items():
        _known(key, "option")
        values[key] = value
    try:
        config = msgspec.convert(values, ServiceConfig, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"The configuration is not valid: {_readable(error)}.") from None
    _check(config)
    return config


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise ConfigError(f"The configuration file {path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"The configuration file {path} is not UTF-8 text.") from None
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"The configuration file {path} is not valid TOML: {error}.") from None
    for key in values:
        _known(key, f"key in {path}")
    return values


def _read_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    names = {environment_name(key): key for key in CONFIG_KEYS}
    hints = get_type_hints(ServiceConfig)
    values: dict[str, Any] = {}
    for name, text in environment.items():
        if not name.startswith(ENVIRONMENT_PREFIX) or name in _OTHER_VARIABLES:
            continue
        key = names.get(name)
        if key is None:
            # Other programs may use the prefix; only what looks like a slip of the pen is refused.
            close = difflib.get_close_matches(name, names, n=1, cutoff=_ENVIRONMENT_SIMILARITY)
            if close:
                raise ConfigError(f"Unknown environment variable {name}. Did you mean {close[0]}?")
            continue
        values[key] = _parse_variable(name, text, hints[key])
    return values


def _parse_variable(name: str, text: str, hint: Any) -> object:
    if hint in (tuple[OidcProvider, ...], tuple[StorageCredentials, ...]):
        what = "providers" if hint == tuple[OidcProvider, ...] else "credentials"
        try:
            return msgspec.json.decode(text or "[]")
        except msgspec.DecodeError as error:
            raise ConfigError(f"{name} must be a JSON list of {what}: {error}.") from None
    kind = get_origin(hint)
    if kind is tuple:
        return [part.strip() for part in text.split(",") if part.strip()]
    if kind is dict and get_args(hint)[1] is str:
        return parse_names(text, name)
    if kind is dict:
        return parse_servers(text, name)
    return text


def parse_names(text: str, name: str) -> dict[str, str]:
    """``north=https://north.example.net,south=https://…`` as a mapping. Raises :class:`ConfigError`."""
    names = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = part.partition("=")
        if not equals or not key.strip() or not value.strip():
            raise ConfigError(f"{name} must look like north=https://north.example.net,south=…, not {text!r}.")
        names[key.strip()] = value.strip()
    return names


def parse_address(text: str) -> tuple[str, int]:
    """``127.0.0.1:9464`` or ``[::1]:9464`` as host and port. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError(text)
    return str(ipaddress.ip_address(host.strip("[]"))), int(port)


def parse_servers(text: str, name: str = "servers") -> dict[str, int]:
    """``standard=2,premium=1`` as a mapping. Raises :class:`ConfigError`."""
    servers = {}
    example = "create=60,get=6000" if name.lower().endswith("rate_limits") else "standard=2,premium=1"
    for part in text.split(","):
        size, equals, count = part.partition("=")
        if not equals or not re.fullmatch(r"-?[0-9]{1,18}", count.strip()):
            raise ConfigError(f"{name} must look like {example}, not {text!r}.")
        servers[size.strip().lower()] = int(count)
    return servers


def _known(key: str, what: str) -> None:
    if key in CONFIG_KEYS:
        return
    close = difflib.get_close_matches(key, CONFIG_KEYS, n=1, cutoff=0.6)
    advice = f"Did you mean {close[0]}?" if close else "See docs/configuration.md for the keys that exist."
    raise ConfigError(f"Unknown {what}: {key}. {advice}")


def _readable(error: msgspec.ValidationError) -> str:
    message, _, path = str(error).partition(" - at ")
    key = path.strip("`").removeprefix("$.")
    return f"{key}: {message[:1].lower()}{message[1:]}" if key else message


def _check(config: ServiceConfig) -> None:
    _check_oidc(config.oidc)
    for key in ("port", "http_port"):
        _require(0 <= getattr(config, key) <= 65535, key, "must be from 0 (any free port) to 65535")
    in_range = PORT_RANGE_MIN <= config.port_min <= config.port_max <= PORT_RANGE_MAX
    _require(in_range, "port_min and port_max", f"must be a range within {PORT_RANGE_MIN} and {PORT_RANGE_MAX}")
    unknown = sorted(set(config.servers) - set(SIZES))
    _require(not unknown, "servers", f"holds an unknown size, {', '.join(unknown)}; the sizes are standard, premium")
    _require(all(count >= 0 for count in config.servers.values()), "servers", "must not hold negative numbers")
    _require(sum(config.servers.values()) > 0, "servers", "must allow at least one server")
    for key in ("warm_servers", "upload_quota_bytes", "upload_max_files"):
        _require(getattr(config, key) >= 0, key, "must not be negative")
    _require(config.signing_key_days >= 1 / 24, "signing_key_days", "must be at least an hour, 0.042")
    for key in ("upload_file_bytes", "upload_retention_hours", "session_history_days", "max_bitrate"):
        _require(getattr(config, key) > 0, key, "must be larger than 0")
    unknown = sorted(set(config.quota_sessions) - set(SIZES))
    _require(not unknown, "quota_sessions", f"holds an unknown size, {', '.join(unknown)}; use standard, premium")
    for key, value in (
        *((f"quota_sessions.{size}", count) for size, count in config.quota_sessions.items()),
        ("quota_session_minutes", config.quota_session_minutes),
        ("quota_conversions", config.quota_conversions),
    ):
        _require(value >= NO_LIMIT, key, "must be a number, or -1 for no limit")
    unknown = sorted(set(config.rate_limits) - set(RATE_OPERATIONS))
    _require(not unknown, "rate_limits", f"holds {', '.join(unknown)}; there are {', '.join(RATE_OPERATIONS)}")
    _require(all(rate >= 0 for rate in config.rate_limits.values()), "rate_limits", "must not hold negative numbers")
    for entry in config.linked_storage:
        is_entry = bool(
            re.fullmatch(r"([0-9A-Fa-f-]{36}/)?[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*(:\d{1,5})?", entry)
        )
        _require(
            is_entry, "linked_storage", f"must hold STORAGE, HOST or ACCOUNT-ID/ before either, which {entry!r} is not"
        )
    _require(0 <= config.resume_grace_seconds <= 3600, "resume_grace_seconds", "must be from 0 to 3600")
    _require(0 <= config.max_spectators <= 64, "max_spectators", "must be from 0 to 64")
    for key in ("orphan_timeout_seconds", "replica_timeout_seconds"):
        _require(1 <= getattr(config, key) <= 3600, key, "must be from 1 to 3600")
    if config.database_url:
        is_url = bool(re.fullmatch(r"postgres(ql)?://[^\s/]*/[^\s?]+(\?\S*)?", config.database_url))
        _require(is_url, "database_url", "must look like postgresql://user:password@host:port/name")
    for key in ("allowed_folders", "writable_folders"):
        for folder in getattr(config, key):
            _require(Path(folder).is_absolute(), key, f"must hold absolute paths, which {folder!r} is not")
    _require(config.conversion_workers >= 0, "conversion_workers", "must not be negative")
    for key in ("conversion_memory_bytes", "conversion_disk_bytes", "conversion_seconds"):
        _require(getattr(config, key) > 0, key, "must be larger than 0")
    key_file = config.conversion_key_file
    _require(not key_file or Path(key_file).is_file(), "conversion_key_file", "must name a file that exists")
    for opened in config.storage_credentials:
        _require(bool(re.fullmatch(r"[A-Za-z0-9._-]{1,63}", opened.name)), "storage_credentials", "needs plain names")
        _require(bool(opened.key), "storage_credentials", f"needs a key for {opened.name!r}")
        is_url = bool(re.fullmatch(r"(https?://[A-Za-z0-9.:\[\]_-]+(/[A-Za-z0-9-]+)?)?", opened.endpoint))
        _require(is_url, "storage_credentials", f"needs an endpoint like https://store.example.net for {opened.name!r}")
        for account in opened.accounts:
            _require(bool(_UUID.fullmatch(account)), "storage_credentials", "needs accounts that are UUIDs")
    if config.download_ca_file:
        _require(Path(config.download_ca_file).is_file(), "download_ca_file", "must name a file that exists")
    for network in config.allowed_networks:
        try:
            ipaddress.ip_network(network)
        except ValueError:
            raise ConfigError(
                f"allowed_networks must hold networks like 10.0.0.0/8, which {network!r} is not."
            ) from None
    for address in config.public_addresses:
        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise ConfigError(f"public_addresses must hold IP addresses, which {address!r} is not.") from None
    _require(bool(re.fullmatch(r"[A-Za-z0-9.:_-]+", config.public_name)), "public_name", "must be a host name")
    for server in config.turn_servers:
        is_server = is_turn_server(server)
        _require(
            is_server, "turn_servers", f"must hold URIs like turn:host:port?transport=udp, which {server!r} is not"
        )
    has_both = bool(config.turn_servers) == bool(config.turn_secret)
    _require(has_both, "turn_secret", "must be set together with turn_servers: it is the secret that they share")
    _require(1 <= config.turn_minutes <= 1440, "turn_minutes", "must be from 1 to 1440")
    for origin in config.cors_origins:
        is_origin = bool(re.fullmatch(r"https?://[A-Za-z0-9.:\[\]_-]+", origin))
        _require(is_origin, "cors_origins", f"must hold origins like https://host:port, which {origin!r} is not")
    is_url = bool(re.fullmatch(r"(https?://[A-Za-z0-9.:\[\]_-]+)?", config.public_url))
    _require(is_url, "public_url", "must look like https://host or https://host:port, without a path")
    both = bool(config.tls_certificate_file) == bool(config.tls_key_file)
    _require(both, "tls_certificate_file and tls_key_file", "must be set both or neither")
    for key in ("tls_certificate_file", "tls_key_file", "tls_ca_file"):
        if value := getattr(config, key):
            _require(Path(value).is_file(), key, "must name a file that exists")
    if config.metrics_address:
        try:
            parse_address(config.metrics_address)
        except ValueError:
            raise ConfigError("metrics_address must look like 127.0.0.1:9464, an IP address and a port.") from None
    region = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
    _require(bool(re.fullmatch(region, config.region)), "region", "must be a name of letters, digits and ._-")
    for name, url in config.regions.items():
        is_name = bool(re.fullmatch(region, name))
        _require(is_name, "regions", f"must hold names of letters, digits and ._-, not {name!r}")
        _require(name != config.region, "regions", f"must hold the other regions only, and this one is {name!r}")
        is_url = bool(re.fullmatch(r"https://[A-Za-z0-9.:\[\]_-]+", url))
        _require(is_url, "regions", f"must hold URLs like https://north.example.net, which {url!r} is not")
    for name, path in config.region_ca_files.items():
        _require(name in config.regions, "region_ca_files", f"must hold regions of the key regions, not {name!r}")
        _require(Path(path).is_file(), "region_ca_files", f"must name files that exist, which {path!r} does not")
    _require(
        bool(re.fullmatch(r"[A-Za-z0-9.:/_-]+", config.token_issuer)),
        "token_issuer",
        "must be letters, digits and .:/_-",
    )


def _check_oidc(providers: tuple[OidcProvider, ...]) -> None:
    names = [provider.name for provider in providers]
    _require(len(set(names)) == len(names), "oidc", "must not hold two providers of the same name")
    for provider in providers:
        key = f"oidc, provider {provider.name!r},"
        _require(bool(re.fullmatch(r"[A-Za-z0-9._-]{1,64}", provider.name)), "oidc", "needs names of A-Z a-z 0-9 . _ -")
        # Plain http is for a provider on this machine only: who can change its keys can let anybody in.
        _require(
            bool(_ISSUER.fullmatch(provider.issuer)), key, "needs an issuer like https://login.example.net/realms/main"
        )
        _require(bool(provider.audiences) and all(provider.audiences), key, "needs audiences, at least one")
        _require(bool(provider.rules), key, "needs rules, at least one")
        unknown = sorted(set(provider.algorithms) - set(OIDC_ALGORITHMS))
        _require(not unknown, key, f"allows {', '.join(unknown)}; the algorithms are {', '.join(OIDC_ALGORITHMS)}")
        _require(0 <= provider.leeway_seconds <= 600, key, "needs leeway_seconds from 0 to 600")
        _require(5 <= provider.token_minutes <= 1440, key, "needs token_minutes from 5 to 1440")
        _require(not provider.ca_file or Path(provider.ca_file).is_file(), key, "needs a ca_file that exists")
        for rule in provider.rules:
            either = bool(rule.account) != bool(rule.account_claim)
            _require(either, key, "needs account or account_claim in each rule, and not both")
            _require(not rule.account or bool(_UUID.fullmatch(rule.account)), key, "needs accounts that are UUIDs")


def _require(condition: bool, key: str, problem: str) -> None:
    if not condition:
        raise ConfigError(f"{key} {problem}.")
