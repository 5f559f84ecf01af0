"""Settings of the service: from the environment, then from a file, then the default."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)


class Settings(BaseSettings):
    """What ``bihuan serve`` and ``bihuan worker`` can be told.

    Every setting can be given as environment variable ``BIHUAN_<NAME>`` or as a key of
    ``<workspace>/service.toml``; the environment wins. See docs/operations/settings.md.
    """

    model_config = SettingsConfigDict(env_prefix="BIHUAN_", extra="forbid", frozen=True)

    workspace: Path = Field(Path("var/demo"), description="Folder of the workspace.")
    database: str = Field(
        "",
        description="URL of the control database: sqlite:///path or postgresql://user@host/name."
        " Empty: control.db in the workspace.",
    )
    database_pool: int = Field(20, ge=1, le=500, description="Open connections per process.")
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0: any free one.")
    processes: int = Field(
        0,
        ge=0,
        le=64,
        description="Processes that answer side by side on the port (Linux); the first runs jobs"
        " too. Limits per minute hold in each. 0: one per core, at most 4.",
    )
    public_url: str = Field(
        "", description="Address that browsers use, https://... Empty: http://host:port."
    )
    cookie_secure: bool = Field(
        False, description="Send the session cookie over HTTPS only; set it in production."
    )
    session_hours: float = Field(
        12, gt=0, le=720, description="Hours after which a sign-in ends, used or not."
    )
    session_idle_minutes: float = Field(
        60, gt=0, le=1440, description="Minutes without a request after which a sign-in ends."
    )
    lockout_attempts: int = Field(
        5, ge=1, le=100, description="Wrong passwords in a row that lock an account."
    )
    lockout_minutes: float = Field(15, gt=0, le=1440, description="How long a lock lasts.")
    oidc_issuer: str = Field("", description="Issuer URL of the OpenID provider; empty: none.")
    oidc_client_id: str = Field("", description="Client id at the OpenID provider.")
    oidc_client_secret: SecretStr = Field(
        SecretStr(""), description="Client secret at the OpenID provider."
    )
    oidc_account_claim: str = Field(
        "preferred_username", description="Claim that names the local account."
    )
    keys: Path | None = Field(
        None, description="File of the data keys. Empty: keys/data.json in the workspace."
    )
    cipher: Literal["aes-siv", "sm4"] = Field(
        "aes-siv", description="Cipher of phone and identity numbers at rest."
    )
    small_group: int = Field(
        20, ge=1, le=1000, description="Counts below this are hidden without clearance (k)."
    )
    review_customers: int = Field(
        100_000, ge=0, description="Plans for more customers need a further approver."
    )
    review_budget: float = Field(
        500_000, ge=0, description="Plans above this budget (currency) need a further approver."
    )
    body_limit_mb: float = Field(10, gt=0, le=1024, description="Largest request body, MB.")
    rate_per_minute: int = Field(
        1200, ge=1, description="Requests per minute and caller before 429."
    )
    sign_in_per_minute: int = Field(
        30, ge=1, description="Sign-in attempts per minute and address before 429."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="What is logged."
    )
    log_format: Literal["json", "text"] = Field("json", description="How it is logged.")
    otlp_endpoint: str = Field(
        "", description="OpenTelemetry collector (OTLP over HTTP); empty: no traces sent."
    )
    worker_threads: int = Field(2, ge=1, le=64, description="Jobs that one worker runs at once.")
    worker_heartbeat_seconds: float = Field(
        2, gt=0, le=60, description="How often a worker says that it lives."
    )
    worker_lease_seconds: float = Field(
        10, gt=0, le=600, description="Silence after which its jobs go to another worker."
    )
    keep_days: int = Field(
        90,
        ge=7,
        le=3650,
        description="Days for which finished jobs, fire times and ended sign-ins can be looked at.",
    )
    demo: bool = Field(
        False, description="A demo workspace: one account per role with a known password."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read arguments, then the environment, then the workspace's ``service.toml``."""
        given = init_settings().get("workspace") or env_settings().get("workspace")
        folder = Path(given) if given else cls.model_fields["workspace"].default
        file = TomlConfigSettingsSource(settings_cls, toml_file=folder / "service.toml")
        return (init_settings, env_settings, file)

    @property
    def database_url(self) -> str:
        """URL of the control database."""
        return self.database or f"sqlite:///{self.workspace / 'control.db'}"

    @property
    def keys_file(self) -> Path:
        """File of the data keys."""
        return self.keys or self.workspace / "keys" / "data.json"
